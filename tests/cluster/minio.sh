# Sourced: MinIO as a pod, under the name minio.storage.svc.cluster.local and at a fixed address.

apply_minio() {
    sed -e "s,IMAGE,$minio_image," -e "s,ADDRESS,$minio_address," "$here/minio.yaml" | kubectl apply --filename - >&2
}

wait_for_minio() {
    wait_for 120 MinIO kubelet kubectl --namespace storage rollout status deployment/minio --timeout 10s
}
