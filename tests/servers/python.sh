#!/bin/sh
# Installs a Python program at the versions in NAME/requirements.txt, in an environment of its own, and prints the path
# of PROGRAM in it.
# usage: python.sh NAME PROGRAM
set -eu
cd "$(dirname "$0")"

name=${1:?usage: python.sh NAME PROGRAM}
program=${2:?usage: python.sh NAME PROGRAM}
programs=${COMPACTION_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/compaction-operator}/bin
version=$(sed -n "s/^$name==//p" "$name/requirements.txt")-$(cksum <"$name/requirements.txt" | cut -d ' ' -f 1)
path=$programs/$name-$version.venv
mkdir -p "$programs"
exec 9>"$programs/$name.lock"
flock 9 # whoever comes second waits for the first one's
if [ ! -e "$path/complete" ]; then
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        DEBIAN_FRONTEND=noninteractive
        export DEBIAN_FRONTEND
        apt-get update -q >&2
        apt-get install -yq --no-install-recommends python3 python3-venv >&2
    fi
    rm -rf "$path" # of one that was killed
    python3 -m venv "$path" >&2
    nice "$path/bin/pip" install --disable-pip-version-check --no-deps -q -r "$name/requirements.txt" >&2
    touch "$path/complete" # last
fi
exec 9>&-
echo "$path/bin/$program"
