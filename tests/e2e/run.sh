#!/usr/bin/env bash
# Runs the end-to-end tests in a cluster that is brought up for them and ended after them; with E2E_KUBECONFIG, in that
# one. Ends with 0 if every test passed.
# usage: run.sh [ARGUMENT...]     more arguments of the test program
# E2E_PARTS names what is run, in this order: install (alone), others (beside each other), node (alone), chaos (alone)
# What else a cluster of one's own needs is in docs/testing.md.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf '\n== %s\n' "$*"; }

if [[ -z ${E2E_KUBECONFIG-} ]]; then
    say 'build the program for the image'
    cargo rustc --release --locked --bin compaction-operator -- -C target-feature=+crt-static
    # The next build of anything links it dynamically again.
    program=$(mktemp)
    install -m 755 target/release/compaction-operator "$program"
    say 'bring up the cluster'
    E2E_NODE=$(mktemp -d "${TMPDIR:-/tmp}/compaction-e2e.XXXXXX")
    trap 'rm -f "$program"; tests/cluster/down.sh "$E2E_NODE"' EXIT
    tests/cluster/up.sh "$E2E_NODE" >/dev/null
    tests/cluster/image.sh "$E2E_NODE" "$program"
    E2E_KUBECONFIG=$E2E_NODE/kubeconfig
    E2E_STORE=http://198.18.$(cat "$E2E_NODE/number").130:9000
    export E2E_NODE E2E_KUBECONFIG E2E_STORE PATH=$E2E_NODE/bin:$PATH
fi

say 'build the tests'
cargo test --release --locked --test e2e --no-run

code=0
# part NAME ARGUMENT...: one run of the test program. What fails in one part keeps no other from running.
part() {
    [[ " ${E2E_PARTS-install others node chaos} " == *" $1 "* ]] || return 0
    say "$1"
    shift
    cargo test --release --locked --test e2e -- "$@" || code=$?
}
part install --test-threads 1 install:: "$@"
part others --test-threads "${E2E_THREADS:-5}" --skip install:: --skip node:: --skip chaos:: "$@"
part node --test-threads 1 node:: "$@"
part chaos --nocapture chaos:: "$@"
exit "$code"
