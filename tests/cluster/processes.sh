# Sourced: starts and ends the processes of the cluster.
# They all live in one control group, and in a network and a mount namespace without names: when the last process
# has ended, the namespaces are gone, with every interface, route, firewall rule and mount in them.

# The hierarchies in which the cluster has its group. In the first one every process of it can be found.
hierarchies() {
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
        echo /sys/fs/cgroup
        return
    fi
    echo /sys/fs/cgroup/pids
    local hierarchy
    for hierarchy in /sys/fs/cgroup/*/; do
        [[ $hierarchy == */pids/ || ! -e $hierarchy/cgroup.procs ]] || echo "${hierarchy%/}"
    done
}

make_groups() {
    local hierarchy
    for hierarchy in $(hierarchies); do
        mkdir -p "$hierarchy/$name"
    done
    mkdir -p "$(hierarchies | head -n 1)/$name/daemons"
}

# The calling script, and all that it starts from now on, are of the cluster.
join_group() { echo $$ >"$(hierarchies | head -n 1)/$name/daemons/cgroup.procs"; }

# start DAEMON COMMAND...: on the node.
start() {
    local daemon=$1
    shift
    printf '%q ' "$@" >"$dir/commands/$daemon"
    start_again "$daemon"
}

# With the command that it was started with.
start_again() {
    launch "$1" nsenter --target "$(cat "$dir/pids/node")" --net --mount
}

# launch DAEMON [PREFIX...]: runs the command that is recorded for the daemon, in a session of its own.
launch() {
    local daemon=$1
    shift
    setsid "$@" bash -c "exec $(cat "$dir/commands/$daemon")" >>"$dir/logs/$daemon.log" 2>&1 </dev/null &
    echo $! >"$dir/pids/$daemon"
}

# Runs a command on the node and waits for it.
on_node() { nsenter --target "$(cat "$dir/pids/node")" --net --mount "$@"; }

processes() {
    find "$(hierarchies | head -n 1)/$name" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# Ends every process of the cluster, and nothing else. Nothing is worth an orderly end: its state is thrown away.
end_processes() {
    local deadline=$((SECONDS + 60)) left
    while left=$(processes) && [[ -n $left ]]; do
        ((SECONDS < deadline)) || die "these processes do not end: $(tr '\n' ' ' <<<"$left")"
        # A process may have ended by itself since it was listed.
        xargs -r kill -KILL <<<"$left" 2>/dev/null || true
        sleep 0.1
    done
}

remove_groups() {
    local hierarchy deadline=$((SECONDS + 30))
    for hierarchy in $(hierarchies); do
        while [[ -d $hierarchy/$name ]]; do
            # The kernel lets go of the last process a moment after it has ended.
            find "$hierarchy/$name" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
            ((SECONDS < deadline)) || die "$hierarchy/$name cannot be removed"
        done
    done
}
