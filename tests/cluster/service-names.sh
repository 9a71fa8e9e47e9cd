#!/usr/bin/env bash
# Writes a file for each Service that has an address, in the hosts format. usage: service-names.sh DIR
# The file stays when the Service is deleted; it is written anew when the name comes back at another address.
set -euo pipefail

dir=$1
columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,ADDRESS:.spec.clusterIP

# The watch ends when the API server goes away, and is begun again.
while true; do
    "$dir/bin/kubectl" --kubeconfig "$dir/kubeconfig" get services --all-namespaces --watch --no-headers \
        --output "custom-columns=$columns" |
        while read -r namespace name address; do
            [[ $address =~ ^[0-9.]+$ ]] || continue # headless
            echo "$address $name.$namespace.svc.cluster.local" >"$dir/names/$namespace.$name"
        done || true
    sleep 0.5
done
