#!/usr/bin/env bash
# Sends a signal to the processes of a pod's containers, as no API can. Works also when the API server has forgotten the
# pod, if its UID is given in place of the name.
# usage: signal.sh DIR SIGNAL NAMESPACE POD | signal.sh DIR SIGNAL UID
set -euo pipefail

usage='usage: signal.sh DIR SIGNAL NAMESPACE POD | signal.sh DIR SIGNAL UID'
dir=$(realpath "${1:?$usage}")
signal=${2:?$usage}
uid=${3:?$usage}
number=$(cat "$dir/number")
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
. "$here/processes.sh"

[[ -z ${4-} ]] || uid=$(kubectl --namespace "$3" get pod "$4" --output 'jsonpath={.metadata.uid}')
# The sandbox is a process of the pod, too; it only sleeps.
pids=$(find "$(hierarchies | head -n 1)/$name" -path "*/pod$uid/*" -name cgroup.procs -exec cat {} +)
[[ -n $pids ]] || die "no process of a pod $uid is on the node"
xargs kill -s "$signal" <<<"$pids"
