#!/bin/sh
# Builds a program that the tests run as a server, at the version that go.mod pins, and prints its path.
# usage: build.sh minio|toxiproxy
set -eu

name=${1:?usage: build.sh NAME}
cd "$(dirname "$0")"
. ../go-programs.sh

case $name in
minio) go_programs "-s -w" minio github.com/minio/minio github.com/minio/minio ;;
toxiproxy) go_programs "-s -w" toxiproxy github.com/Shopify/toxiproxy/v2 github.com/Shopify/toxiproxy/v2/cmd/server ;;
*) echo "build.sh: no server is called '$name'; add it to build.sh, tools.go and go.mod" >&2; exit 2 ;;
esac
