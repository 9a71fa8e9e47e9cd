# Sourced: the programs that come from Debian.

need_packages() {
    # What the kubelet, kube-proxy and these scripts call; buildah makes the images, dnsmasq answers for names.
    local wanted=(containerd runc containernetworking-plugins iptables conntrack busybox-static dnsmasq-base buildah
        ca-certificates openssl iproute2 util-linux) missing=() package
    for package in "${wanted[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "these are missing, and there is no apt-get to install them: ${missing[*]}"
    say "installs ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -yq --no-install-recommends "${missing[@]}"; } >"$dir/logs/packages.log" 2>&1 ||
        { tail -n 25 "$dir/logs/packages.log" >&2; die "cannot install ${missing[*]}"; }
}
