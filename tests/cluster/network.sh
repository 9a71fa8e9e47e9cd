# Sourced: the node's namespaces, and the way from the host into them.

# One process holds the namespaces open. In them, nothing of the host's is written: the directories in which
# containerd, kubelet and runc keep state are the cluster's own.
make_node() {
    mkdir -p "$dir/var/lib" "$dir/var/log"
    echo "nameserver $node_address" >"$dir/resolv.conf"
    printf '%q ' unshare --net --mount bash -c "
        set -e
        mount --bind '$dir/resolv.conf' /etc/resolv.conf
        mount -t tmpfs tmpfs /run
        mount --bind '$dir/var/lib' /var/lib
        mount --bind '$dir/var/log' /var/log
        echo 1 >/proc/sys/net/ipv4/ip_forward
        ip link set lo up
        touch '$dir/node-is-made'
        exec sleep infinity" >"$dir/commands/node"
    launch node
    wait_for 10 'the namespaces' node test -e "$dir/node-is-made"
    local file
    for file in "$here/service-names.sh" "$dir"/bin/*; do
        on_node test -x "$file" || die "$(realpath "$file") is not visible on the node, which has its own /run, /var/lib and /var/log"
    done
}

# The host reaches the node, the pods and the services; nothing in the cluster reaches further than the host:
# it has no other route.
connect_host() {
    local link=ctest$number
    ip link add "$link" type veth peer name host netns "$(cat "$dir/pids/node")"
    ip address add "$host_address/30" dev "$link"
    ip link set "$link" up
    on_node ip address add "$node_address/30" dev host
    on_node ip link set host up
    ip route add "$services" via "$node_address"
    ip route add "$pods" via "$node_address"
}

# The kernel takes the link away with the namespace, but not at once.
disconnect_host() {
    local deadline=$((SECONDS + 30))
    while ip link show "ctest$number" >/dev/null 2>&1; do
        ip link delete "ctest$number" 2>/dev/null || sleep 0.1
        ((SECONDS < deadline)) || die "the link ctest$number does not go away"
    done
}
