#!/usr/bin/env bash
# Ends a cluster, or what is left of one, and removes its directory.
# usage: down.sh [DIR]     without DIR, the cluster with the number COMPACTION_TEST_CLUSTER (0), wherever it is
set -euo pipefail

((EUID == 0)) || { echo 'cluster: must be root' >&2; exit 1; }
here=$(dirname "${BASH_SOURCE[0]}")
dir=
number=$(cat "${1-}/number" 2>/dev/null) || true
. "$here/settings.sh"
. "$here/processes.sh"
. "$here/network.sh"

# One at a time: what ends the cluster of a killed run may still be at it.
exec 9<"$here/down.sh"
flock 9
[[ -e $record ]] || { say "there is no cluster number $number"; exit 0; }
dir=$(cat "$record")
[[ -z ${1-} || $(realpath -m "$1") == "$dir" ]] || die "cluster number $number is in $dir, not in $1"

say "ends the one in $dir"
end_processes
disconnect_host
remove_groups
rm -rf "$dir"
rm "$record"
