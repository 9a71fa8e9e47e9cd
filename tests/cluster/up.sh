#!/usr/bin/env bash
# Brings up a real Kubernetes of one node, with MinIO in it, and prints the directory that holds all of its state.
# usage: up.sh [--control-plane] [DIR]     DIR: empty or not there; else a new one. Say `down.sh` to end it.
# --control-plane: etcd, the API server and the controller manager only, without a scheduler, a node or MinIO.
# Needs root, Go and Debian's packages, which it installs. Its processes live in namespaces of their own.
set -euo pipefail
shopt -s inherit_errexit

((EUID == 0)) || { echo 'cluster: must be root: it makes namespaces, control groups and mounts' >&2; exit 1; }
whole=yes
[[ ${1-} != --control-plane ]] || { whole=; shift; }
dir=$(realpath -m "${1:-$(mktemp -d "${TMPDIR:-/tmp}/compaction-cluster.XXXXXX")}")
here=$(dirname "${BASH_SOURCE[0]}")
for part in settings processes packages network certificates control-plane images node dns minio; do
    . "$here/$part.sh"
done

# What a run that was killed has left.
[[ ! -e $record ]] || "$here/down.sh"

case $dir/ in /run/* | /var/run/* | /var/lib/* | /var/log/*) die "$dir is not visible on the node; choose another directory" ;; esac
((${#dir} <= 60)) || die "$dir is too long a path for the sockets in it"
[[ ! -e $dir || -z $(ls -A "$dir") ]] || die "$dir is not empty"
mkdir -p "$dir"/{bin,commands,logs,pids}
chmod 700 "$dir"
echo "$number" >"$dir/number"
echo "$dir" >"$record"
export KUBECACHEDIR=$dir/cache

need_packages
say 'programs (built the first time, which takes minutes)'
for program in $("$here/programs/build.sh") $("$here/../servers/build.sh" minio); do
    ln -s "$program" "$dir/bin/$(basename "$program" | sed 's/-v[0-9].*//')"
done

say 'node, control plane'
make_groups
join_group
make_node
connect_host
make_certificates
start_api_server
if [[ ! $whole ]]; then
    wait_for_api_server
    # Its own limit of 20 calls a second would be measured in place of what it can do.
    start_controller_manager --kube-api-qps 100000 --kube-api-burst 100000
    wait_for_control_plane
    say "up after $SECONDS s"
    echo "$dir"
    exit
fi
busybox=$(make_busybox_image)
minio=$(make_minio_image "$dir/bin/minio")
start_containerd
load_image "$busybox"
load_image "$minio"
wait_for_api_server
start_controller_manager
start_scheduler
start_dns
wait_for_control_plane
start_node
apply_minio
wait_for_node
wait_for_dns
say 'MinIO'
wait_for_minio

cat >&2 <<END
cluster: up after $SECONDS s
  export KUBECONFIG=$dir/kubeconfig E2E_KUBECONFIG=$dir/kubeconfig PATH=$dir/bin:\$PATH
  MinIO       http://$minio_address:9000 from here, http://minio.storage.svc.cluster.local:9000 from pods;
              access key test-access-key, secret key test-secret-key
  images      $here/image.sh $dir PROGRAM     makes and loads $operator_image
  daemons     $here/daemon.sh $dir stop|start kube-apiserver
  logs        $dir/logs
  end         $here/down.sh $dir
END
echo "$dir"
