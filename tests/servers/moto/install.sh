#!/bin/sh
# Installs moto, a simulated AWS in Python, at the versions in requirements.txt, and prints the path of its server.
set -eu
cd "$(dirname "$0")"

programs=${COMPACTION_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/compaction-operator}/bin
version=$(sed -n 's/^moto==//p' requirements.txt)-$(cksum <requirements.txt | cut -d ' ' -f 1)
path=$programs/moto-$version
mkdir -p "$programs"
exec 9>"$programs/moto.lock"
flock 9 # whoever comes second waits for the first one's
if [ ! -x "$path" ]; then
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        DEBIAN_FRONTEND=noninteractive
        export DEBIAN_FRONTEND
        apt-get update -q >&2
        apt-get install -yq --no-install-recommends python3 python3-venv >&2
    fi
    rm -rf "$path.venv" # of one that was killed
    python3 -m venv "$path.venv" >&2
    nice "$path.venv/bin/pip" install --disable-pip-version-check --no-deps -q -r requirements.txt >&2
    cat >"$path.new" <<SCRIPT
#!/bin/sh
exec '$path.venv/bin/moto_server' "\$@"
SCRIPT
    chmod +x "$path.new"
    mv "$path.new" "$path" # last: one that is killed leaves no program behind
fi
exec 9>&-
echo "$path"
