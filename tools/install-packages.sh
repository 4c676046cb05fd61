#!/usr/bin/env bash
# Installs the Debian packages that Damask's lab and tests run on, if any is
# missing. Their services are not started: the lab and the tests start private
# copies of what they need, and the machine's own network is left alone.
#
# With the argument "kernel" it installs what a virtual machine needs besides: the
# kernel itself is unpacked later and not installed. With "kubelets" it installs the
# container runtime that kubelets need.
set -euo pipefail

declare -A package_of=(
  [ovs-vswitchd]=openvswitch-switch [ovsdb-server]=openvswitch-switch [ovs-ofctl]=openvswitch-common
  [iptables]=iptables [nft]=nftables [conntrack]=conntrack [ip]=iproute2 [ping]=iputils-ping
  [arping]=iputils-arping [ethtool]=ethtool [tcpdump]=tcpdump [iperf3]=iperf3 [gcc]=gcc
)
if [ "${1:-}" = kernel ]; then
  package_of+=([qemu-system-x86_64]=qemu-system-x86 [depmod]=kmod [xz]=xz-utils)
elif [ "${1:-}" = kubelets ]; then
  package_of+=([containerd]=containerd [ctr]=containerd [runc]=runc)
fi

missing=()
for command in "${!package_of[@]}"; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("${package_of[$command]}")
done
# The reference plugins, against which `make bench` compares, have no command.
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
# cgo, which the race detector needs, wants the C library's headers.
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "packages are missing (${missing[*]}) and only root can install them: run this as root" >&2
  exit 1
fi
command -v apt-get >/dev/null || { echo "packages are missing (${missing[*]}) and there is no apt-get: install them by hand" >&2; exit 1; }

# 101 tells Debian's maintainer scripts not to start services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
echo "installing: ${missing[*]}"
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "installing packages did not work; the whole output is in $log" >&2
  exit 1
fi
rm -f "$log"
