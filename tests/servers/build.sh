#!/bin/sh
# Builds or installs a program that the tests and benchmarks run, at the version that is pinned here, and prints its path.
# usage: build.sh minio|toxiproxy|versitygw|moto|duckdb
set -eu

name=${1:?usage: build.sh NAME}
cd "$(dirname "$0")"
. ../go-programs.sh

case $name in
minio) go_programs "-s -w" minio github.com/minio/minio github.com/minio/minio ;;
toxiproxy) go_programs "-s -w" toxiproxy github.com/Shopify/toxiproxy/v2 github.com/Shopify/toxiproxy/v2/cmd/server ;;
versitygw)
    cd versitygw
    go_programs "-s -w" versitygw github.com/versity/versitygw github.com/versity/versitygw/cmd/versitygw
    ;;
moto) ./python.sh moto moto_server ;;
duckdb) ./python.sh duckdb python3 ;;
*) echo "build.sh: no server is called '$name'; add it to build.sh, and to a go.mod with its tools.go" >&2; exit 2 ;;
esac
