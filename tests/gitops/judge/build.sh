#!/bin/sh
# Builds the program that says what Flux and Argo CD make of objects, and prints its path.
set -eu

cd "$(dirname "$0")"
. ../../go-programs.sh

# It is of this tree, so its version is that of its sources.
pinned() {
    cat go.mod go.sum ./*.go | sha256sum | cut -c1-12
}

go_programs "-s -w" judge compaction.dev/test-gitops/judge compaction.dev/test-gitops/judge
