# Sourced: names of services. dnsmasq answers; service-names.sh tells it what services there are.

start_dns() {
    mkdir -p "$dir/names"
    # A name that is not there is answered at once: there is nobody else to ask.
    start dnsmasq dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --no-hosts --no-resolv \
        --listen-address "$node_address" --bind-interfaces --log-facility=- \
        --hostsdir "$dir/names" --address=/#/
    start service-names "$here/service-names.sh" "$dir"
}

wait_for_dns() {
    wait_for 30 'the name of the API server' service-names test -s "$dir/names/default.kubernetes"
}
