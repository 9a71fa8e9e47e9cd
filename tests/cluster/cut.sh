#!/usr/bin/env bash
# Cuts pods off, or lets them through again. Packets are dropped, and nobody is told: whoever waits, waits.
# usage: cut.sh DIR on|off store|network     store: from the pods to port 9000; network: from the pods to anything
set -euo pipefail

usage='usage: cut.sh DIR on|off store|network'
dir=$(realpath "${1:?$usage}")
number=$(cat "$dir/number")
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/settings.sh"
. "$here/processes.sh"

case ${2:?$usage} in
on) action=-I ;;
off) action=-D ;;
*) die "$usage" ;;
esac
case ${3:?$usage} in
store) what=(--protocol tcp --dport 9000) ;;
network) what=() ;;
*) die "$usage" ;;
esac
for chain in INPUT FORWARD; do
    on_node iptables -w "$action" "$chain" --source "$pods" "${what[@]}" -j DROP
done
