# Sourced: containerd, the kubelet and kube-proxy; the one node.

containerd_socket=$dir/containerd.sock

start_containerd() {
    mkdir -p "$dir/cni"
    # Every pod is routed, not bridged: what a pod answers to a service's client on the same node passes the
    # firewall rules that undo the translation, with no kernel module for bridges.
    cat >"$dir/cni/pods.conflist" <<-END
	{"cniVersion": "0.4.0", "name": "pods", "plugins": [
	  {"type": "ptp", "ipam": {"type": "host-local", "subnet": "$pods", "routes": [{"dst": "0.0.0.0/0"}]}},
	  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	END
    # A machine may lack CAP_SYS_RESOURCE: then no process may be made less likely to be killed than it is.
    cat >"$dir/containerd.toml" <<-END
	version = 2
	[grpc]
	  address = "$containerd_socket"
	[plugins."io.containerd.grpc.v1.cri"]
	  sandbox_image = "$busybox_image"
	  restrict_oom_score_adj = true
	  [plugins."io.containerd.grpc.v1.cri".cni]
	    bin_dir = "/usr/lib/cni"
	    conf_dir = "$dir/cni"
	END
    start containerd containerd --config "$dir/containerd.toml"
    wait_for 30 containerd containerd ctr --address "$containerd_socket" version
}

start_node() {
    cat >"$dir/kubelet.yaml" <<-END
	apiVersion: kubelet.config.k8s.io/v1beta1
	kind: KubeletConfiguration
	containerRuntimeEndpoint: unix://$containerd_socket
	authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $dir/pki/ca.crt}}
	authorization: {mode: Webhook}
	clusterDNS: [$node_address]
	clusterDomain: cluster.local
	resolvConf: $dir/resolv.conf
	cgroupDriver: cgroupfs
	cgroupRoot: /$name
	failCgroupV1: false
	failSwapOn: false
	# Tests share the machine: its disk and memory are not the node's to judge.
	evictionHard: {memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
	imageGCHighThresholdPercent: 100
	# What a pod waits for, such as a Secret, is looked for again soon.
	syncFrequency: 5s
	serializeImagePulls: false
	END
    start kubelet "$dir/bin/kubelet" --config "$dir/kubelet.yaml" --kubeconfig "$dir/pki/kubelet.kubeconfig" \
        --hostname-override "$name" --node-ip "$node_address"
    start kube-proxy "$dir/bin/kube-proxy" --kubeconfig "$dir/pki/kube-proxy.kubeconfig" --hostname-override "$name" \
        --proxy-mode iptables --cluster-cidr "$pods" --conntrack-max-per-core 0
}

wait_for_node() {
    wait_for 60 'the node' kubelet kubectl wait --for condition=Ready "node/$name" --timeout 10s
}
