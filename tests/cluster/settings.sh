# Sourced first: what the parts of the cluster share. Needs $dir, the directory that holds all of the cluster's state.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Clusters with different numbers live side by side; the number is in every name and address outside $dir.
number=${number:-${COMPACTION_TEST_CLUSTER:-0}}
[[ $number =~ ^[0-9]+$ && $number -le 255 ]] || { echo "COMPACTION_TEST_CLUSTER is a number up to 255, not '$number'" >&2; exit 2; }

name=compaction-test-$number
record=/run/$name              # says which directory the cluster is in
# Addresses of the block for benchmarks (RFC 2544), which no network uses.
host_address=198.18.$number.1
node_address=198.18.$number.2
services=198.18.$number.128/25
kubernetes_address=198.18.$number.129
minio_address=198.18.$number.130
pods=198.19.$number.0/24
server=https://$node_address:6443

say() { echo "cluster: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# wait_for SECONDS WHAT DAEMON COMMAND...: until the command succeeds. Fails with the end of the daemon's log when the
# time is over or the daemon has ended.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2 daemon=$3
    shift 3
    until "$@" >"$dir/last-answer" 2>&1; do
        if ((SECONDS >= deadline)) || ! kill -0 "$(cat "$dir/pids/$daemon")" 2>/dev/null; then
            say "waited in vain for $what; the last answer was:"
            tail -n 5 "$dir/last-answer" >&2
            say "the end of $dir/logs/$daemon.log:"
            tail -n 25 "$dir/logs/$daemon.log" >&2
            exit 1
        fi
        sleep 0.2
    done
}

kubectl() { "$dir/bin/kubectl" --kubeconfig "$dir/kubeconfig" "$@"; }
