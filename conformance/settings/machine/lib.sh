# Sourced by the scripts beside it: the cache, one builder at a time, a Debian root that boots.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PROA_CACHE:-$HOME/.cache/proa}
mkdir -p "$cache"

# What the engines' root has, and the machine with engines.
engine_packages=procps,iproute2,busybox-static,jq,uidmap,python3-minimal,strace,socat,util-linux,procps,libcap2-bin
engine_packages=$engine_packages,systemd,systemd-sysv,dbus,dbus-user-session,udev,kmod
engine_packages=$engine_packages,containerd,runc,crun,podman,conmon,netavark,aardvark-dns,containernetworking-plugins,docker.io,docker-cli
engine_packages=$engine_packages,iptables,nftables,fuse-overlayfs,slirp4netns,passt,catatonit,umoci,skopeo,buildah,docker-buildx,criu,libcriu2

die() { echo "${0##*/}: $*" >&2; exit 125; }
need() { "$here/../need" "$@" || exit 125; }

# once TARGET COMMAND...: makes TARGET by `COMMAND... TEMPORARY`, unless it is there; nobody sees half of it.
once() {
  local target=$1; shift
  exec 9>"$target.lock"; flock 9
  if [ ! -e "$target" ]; then
    rm -rf "$target.new"; "$@" "$target.new"; mv "$target.new" "$target"
  fi
  exec 9>&-
}

# debian SUITE PACKAGE,... DIR: a root with a normal user that has subordinate ids and a systemd of its own.
debian() {
  need mmdebstrap mmdebstrap
  local log=$cache/debian-$1.log
  INITRD=No mmdebstrap --variant=minbase --include="$2" --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --customize-hook='chroot "$1" useradd --create-home --uid 1000 --shell /bin/bash user' \
    --customize-hook='for f in subuid subgid; do echo user:100000:65536 >"$1/etc/$f"; done' \
    --customize-hook='mkdir -p "$1/var/lib/systemd/linger"; touch "$1/var/lib/systemd/linger/user"' \
    --customize-hook='chroot "$1" systemctl mask timers.target apparmor.service systemd-udev-trigger.service' \
    --customize-hook='od -An -N16 -tx1 /dev/urandom | tr -d " " >"$1/etc/machine-id"' \
    --customize-hook="cp '$here'/guest/job.* \"\$1/etc/systemd/system/\"; cp '$here/guest/run-job' \"\$1/usr/local/bin/\"" \
    --customize-hook="cp '$here/guest/as-user' \"\$1/usr/local/bin/\"" \
    "$1" "$3" "$("$here/../mirror")" >"$log" 2>&1 </dev/null || die "cannot build a Debian $1 root, see $log"
}
