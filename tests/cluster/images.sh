# Sourced: images, made by buildah from Dockerfiles whose stages are directories of this machine, with no registry.

busybox_image=localhost/busybox:test
minio_image=localhost/minio:test
operator_image=localhost/compaction-operator:test

# make_image IMAGE DOCKERFILE STAGE: the last stage of the Dockerfile, over a directory in place of its stage `build`.
# Prints the archive's path.
make_image() {
    local image=$1 dockerfile=$2 stage=$3 work=$dir/images
    local archive=$work/${image//[\/:]/-}.tar
    # On the node, what buildah writes is the cluster's own.
    local buildah=(on_node buildah --storage-driver vfs)
    mkdir -p "$work"
    rm -f "$archive"
    "${buildah[@]}" build --quiet --isolation chroot --pull=never --format docker --file "$dockerfile" \
        --build-context build="$stage" --tag "$image" "$stage" >/dev/null
    "${buildah[@]}" push --quiet "$image" "docker-archive:$archive:$image" >&2
    echo "$archive"
}

# Gives the archive to the node: pods with imagePullPolicy IfNotPresent or Never find the image there.
load_image() {
    ctr --address "$dir/containerd.sock" --namespace k8s.io images import "$1" >/dev/null
}

# The sandbox of every pod, and a shell for the tests.
make_busybox_image() {
    local stage=$dir/images/busybox
    mkdir -p "$stage/bin"
    cp /bin/busybox "$stage/bin/busybox"
    make_image "$busybox_image" "$here/busybox.Dockerfile" "$stage"
}

make_minio_image() {
    local stage=$dir/images/minio
    mkdir -p "$stage/bin" "$stage/tmp"
    cp --reflink=auto "$1" "$stage/bin/minio"
    make_image "$minio_image" "$here/minio.Dockerfile" "$stage"
}

# The very Dockerfile that users build from, with a program that was built here.
make_operator_image() {
    local stage=$dir/images/operator
    mkdir -p "$stage/usr/local/bin" "$stage/etc/ssl/certs"
    install -m 755 "$1" "$stage/usr/local/bin/compaction-operator"
    cp /etc/ssl/certs/ca-certificates.crt "$stage/etc/ssl/certs/"
    make_image "$operator_image" "$here/../../Dockerfile" "$stage"
}
