#!/bin/sh
# Builds a program that the tests run as a server, at the version that go.mod pins, and prints its path.
# usage: build.sh minio
# A program that is there already is not built again. Programs live outside the tree, in
# ${COMPACTION_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/compaction-operator}/bin/NAME-VERSION.
set -eu

name=${1:?usage: build.sh NAME}
case $name in
minio) module=github.com/minio/minio package=$module ;;
*) echo "build.sh: no server is called '$name'; add it to build.sh, tools.go and go.mod" >&2; exit 2 ;;
esac

cd "$(dirname "$0")"
version=$(awk -v module="$module" '$1 == "require" { $0 = $2 " " $3 } $1 == module { print $2; exit }' go.mod)
bin=${COMPACTION_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/compaction-operator}/bin
program=$bin/$name-$version

mkdir -p "$bin"
exec 9>"$bin/$name.lock"
flock 9 # whoever comes second waits for the first one's program
if [ ! -x "$program" ]; then
    # Renamed into place when it is whole: a build that is killed leaves no program behind.
    CGO_ENABLED=0 nice go build -trimpath -ldflags "-s -w" -o "$program.$$" "$package" >&2
    mv "$program.$$" "$program"
fi
echo "$program"
