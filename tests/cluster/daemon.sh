#!/usr/bin/env bash
# Kills a daemon of a cluster, or starts it again, as the node's supervisor would not.
# usage: daemon.sh DIR stop|start NAME     NAME: kube-apiserver, kubelet, ...: a file in DIR/commands
set -euo pipefail

usage='usage: daemon.sh DIR stop|start NAME'
dir=$(realpath "${1:?$usage}")
daemon=${3:?$usage}
number=$(cat "$dir/number")
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/settings.sh"
. "$here/processes.sh"
[[ -e $dir/commands/$daemon && $daemon != node ]] || die "there is no daemon $daemon in $dir"

running() {
    # A number that is some other process's by now is not in the cluster's group.
    processes | grep -qx "$(cat "$dir/pids/$daemon")"
}

case $2 in
stop)
    running || die "$daemon does not run"
    kill -KILL "$(cat "$dir/pids/$daemon")"
    while running; do sleep 0.1; done
    ;;
start)
    ! running || die "$daemon runs"
    join_group
    start_again "$daemon"
    ;;
*) die "$usage" ;;
esac
