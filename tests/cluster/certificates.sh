# Sourced: the cluster's certificate authority, a certificate for everyone who speaks, and their kubeconfigs.

make_certificates() {
    mkdir -p "$dir/pki"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$name" \
        -keyout "$dir/pki/ca.key" -out "$dir/pki/ca.crt" 2>/dev/null
    openssl genrsa -out "$dir/pki/service-accounts.key" 2048 2>/dev/null
    openssl rsa -in "$dir/pki/service-accounts.key" -pubout -out "$dir/pki/service-accounts.pub" 2>/dev/null

    certificate kube-apiserver /CN=kube-apiserver "IP:$node_address,IP:127.0.0.1,IP:$kubernetes_address,\
DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    # With this one the API server asks the kubelet for logs.
    certificate kubelet-client /O=system:masters/CN=kube-apiserver
    identity admin /O=system:masters/CN=admin
    identity kube-controller-manager /CN=system:kube-controller-manager
    identity kube-scheduler /CN=system:kube-scheduler
    identity kube-proxy /CN=system:kube-proxy
    identity kubelet "/O=system:nodes/CN=system:node:$name"
    ln -s pki/admin.kubeconfig "$dir/kubeconfig"
}

# certificate FILE SUBJECT [NAMES]
certificate() {
    local file=$dir/pki/$1
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$file.key" 2>/dev/null |
        openssl x509 -req -days 30 -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" -CAcreateserial -out "$file.crt" \
            -extfile <(echo "extendedKeyUsage = serverAuth, clientAuth"; [[ -z ${3-} ]] || echo "subjectAltName = $3") 2>/dev/null
}

# identity NAME SUBJECT: a certificate, and a kubeconfig that needs no other file.
identity() {
    certificate "$1" "$2"
    cat >"$dir/pki/$1.kubeconfig" <<-END
	apiVersion: v1
	kind: Config
	current-context: $name
	contexts: [{name: $name, context: {cluster: $name, user: $1}}]
	clusters:
	- name: $name
	  cluster: {server: "$server", certificate-authority-data: $(base64 -w 0 "$dir/pki/ca.crt")}
	users:
	- name: $1
	  user:
	    client-certificate-data: $(base64 -w 0 "$dir/pki/$1.crt")
	    client-key-data: $(base64 -w 0 "$dir/pki/$1.key")
	END
}
