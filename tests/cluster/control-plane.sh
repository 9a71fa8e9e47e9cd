# Sourced: etcd, the API server, the controller manager and the scheduler.

start_api_server() {
    # Reached on the loopback interface of the node only. Nothing here has to survive a power cut.
    start etcd "$dir/bin/etcd" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn
    # Pods of the tests get the admission that is on by default, and what kubeadm adds.
    start kube-apiserver "$dir/bin/kube-apiserver" \
        --etcd-servers http://127.0.0.1:2379 \
        --advertise-address "$node_address" \
        --service-cluster-ip-range "$services" \
        --authorization-mode Node,RBAC \
        --enable-admission-plugins NodeRestriction \
        --client-ca-file "$dir/pki/ca.crt" \
        --tls-cert-file "$dir/pki/kube-apiserver.crt" --tls-private-key-file "$dir/pki/kube-apiserver.key" \
        --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-key-file "$dir/pki/service-accounts.pub" \
        --service-account-signing-key-file "$dir/pki/service-accounts.key" \
        --kubelet-client-certificate "$dir/pki/kubelet-client.crt" \
        --kubelet-client-key "$dir/pki/kubelet-client.key" \
        --kubelet-preferred-address-types InternalIP
}

wait_for_api_server() {
    wait_for 90 'the API server' kube-apiserver kubectl get --raw /readyz
}

# start_controller_manager [FLAG...]
start_controller_manager() {
    start kube-controller-manager "$dir/bin/kube-controller-manager" \
        --kubeconfig "$dir/pki/kube-controller-manager.kubeconfig" \
        --use-service-account-credentials \
        --service-account-private-key-file "$dir/pki/service-accounts.key" \
        --root-ca-file "$dir/pki/ca.crt" \
        --leader-elect=false "$@"
}

start_scheduler() {
    start kube-scheduler "$dir/bin/kube-scheduler" \
        --kubeconfig "$dir/pki/kube-scheduler.kubeconfig" \
        --authentication-kubeconfig "$dir/pki/kube-scheduler.kubeconfig" \
        --authorization-kubeconfig "$dir/pki/kube-scheduler.kubeconfig" \
        --leader-elect=false
}

wait_for_control_plane() {
    # Without it no pod is admitted.
    wait_for 60 'the first service account' kube-controller-manager kubectl get serviceaccount default --namespace default
}
