#!/bin/sh
# Builds the programs of the test cluster at the versions that go.mod pins, and prints their paths, one a line.
set -eu

cd "$(dirname "$0")"
. ../../go-programs.sh

kubernetes=$(pinned k8s.io/kubernetes)
minor=${kubernetes#v1.}
# Without these, Kubernetes takes itself for v0.0.0 and refuses its own kubelet.
component=k8s.io/component-base/version
ldflags="-s -w -X $component.gitVersion=$kubernetes -X $component.gitMajor=1 -X $component.gitMinor=${minor%%.*} \
-X $component.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=$kubernetes"

set --
for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    set -- "$@" "$name" k8s.io/kubernetes "k8s.io/kubernetes/cmd/$name"
done
go_programs "$ldflags" "$@" \
    etcd go.etcd.io/etcd/server/v3 go.etcd.io/etcd/server/v3 \
    helm helm.sh/helm/v4 helm.sh/helm/v4/cmd/helm
