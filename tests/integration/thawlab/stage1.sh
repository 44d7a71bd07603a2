#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs as PID 1 of fresh namespaces (see container.py), turns the machine's own root into a
# throw-away one and becomes its systemd. Everything mounted here is in a private mount namespace
# and vanishes with it.
#
# Environment:
#   LAB_SCRATCH  an empty folder to mount on
#   LAB_STAGE    a tree to lay over the root (the installed build), or empty
#   LAB_EXTRA    another one, laid over it last (files of a test), or empty
#   LAB_MOUNTS   lines "SOURCE<tab>TARGET<tab>rw|ro" to bind
#   LAB_NAME     host name
#   LAB_SYSTEMD  arguments for systemd
set -euo pipefail

# ---- an overlay over / ------------------------------------------------------------------------
mount -t tmpfs -o mode=755 thaw-lab "$LAB_SCRATCH"
root=$LAB_SCRATCH/root
mkdir "$LAB_SCRATCH/upper" "$LAB_SCRATCH/work" "$root"
mount -t overlay overlay \
    -o "lowerdir=/,upperdir=$LAB_SCRATCH/upper,workdir=$LAB_SCRATCH/work" "$root"

# ---- only known units: what the machine runs besides is none of ours ---------------------------
keep_wants() { # TARGET UNIT...: let TARGET want exactly those of the units that exist
    local directory=$root/usr/lib/systemd/system/$1.wants unit
    shift
    rm -rf "$directory"
    mkdir -p "$directory"
    for unit in "$@"; do
        [ ! -e "/usr/lib/systemd/system/$unit" ] || ln -s "../$unit" "$directory/$unit"
    done
}
rm -rf "$root"/etc/systemd/system "$root"/etc/systemd/user "$root"/etc/rc?.d \
    "$root"/usr/local/lib/systemd "$root"/etc/systemd/*.conf.d
mkdir -p "$root"/etc/systemd/system "$root"/etc/systemd/system-generators \
    "$root"/etc/systemd/journald.conf.d
for generator in /usr/lib/systemd/system-generators/*; do
    ln -s /dev/null "$root/etc/systemd/system-generators/${generator##*/}"
done
: >"$root/etc/fstab"
keep_wants sysinit.target systemd-journald.service systemd-tmpfiles-setup-dev.service \
    systemd-tmpfiles-setup.service
keep_wants sockets.target systemd-journald.socket systemd-journald-dev-log.socket dbus.socket
keep_wants multi-user.target dbus.service
keep_wants basic.target
keep_wants timers.target
keep_wants graphical.target
keep_wants local-fs.target
# journald is socket activated and reads its own settings.
cat >"$root/etc/systemd/journald.conf.d/lab.conf" <<'CONF'
[Journal]
Storage=volatile
RateLimitBurst=0
Audit=no
ForwardToSyslog=no
CONF
rm -f "$root"/etc/systemd/journald.conf

tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
echo "$LAB_NAME" >"$root/etc/hostname"

# ---- the build, the test's files, users, enabled units -----------------------------------------
for tree in "$LAB_STAGE" "$LAB_EXTRA"; do
    [ -z "$tree" ] || cp -a "$tree/." "$root/"
done
mkdir -p "$root/usr/lib/sysusers.d"
cat >"$root/usr/lib/sysusers.d/zz-thaw-lab.conf" <<'CONF'
# Callers of the tests: one in group thaw, one in no group of ours.
u tester - "member of group thaw"
g thaw -
m tester thaw
u visitor - "nobody in particular"
CONF
systemd-sysusers --root="$root" 2>/dev/null
if [ -n "$LAB_STAGE" ]; then
    while read -r directory; do
        systemctl --quiet --root="$root" preset "$directory"
    done < <(sed -n 's/^enable *//p' "$root"/usr/lib/systemd/system-preset/*thaw.preset \
        "$root"/lib/systemd/system-preset/*thaw.preset 2>/dev/null | sort -u)
fi

# ---- kernel interfaces ---------------------------------------------------------------------------
cd "$root"
mount -t proc proc proc
# Without this a systemd in here would set the real kernel's sysctls.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 -o nsdelegate cgroup2 sys/fs/cgroup 2>/dev/null ||
    mount -t cgroup2 cgroup2 sys/fs/cgroup

# Nodes of its own, not binds: tmpfiles.d changes owners and modes in here.
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm dev/net dev/hugepages dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
node() { # NAME MODE MAJOR MINOR
    mknod -m "$2" "dev/$1" c "$3" "$4"
}
node null 666 1 3
node zero 666 1 5
node full 666 1 7
node random 666 1 8
node urandom 666 1 9
node tty 666 5 0
while read -r minor name; do
    case $name in
    # Modes as udev gives them on a host; userfaultfd is left to our tmpfiles.d.
    userfaultfd) node userfaultfd 600 10 "$minor" ;;
    kvm) node kvm 660 10 "$minor" ;;
    fuse) node fuse 666 10 "$minor" ;;
    tun) node net/tun 666 10 "$minor" ;;
    esac
done <proc/misc
chgrp "$(sed -n 's/^kvm:[^:]*:\([0-9]*\):.*/\1/p' etc/group)" dev/kvm 2>/dev/null || true

mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/lock run/oldroot

# ---- what the caller wants to see ----------------------------------------------------------------
while IFS=$'\t' read -r source target access; do
    [ -n "$source" ] || continue
    if [ -d "$source" ]; then
        mkdir -p ".$target"
    else
        mkdir -p ".${target%/*}"
        [ -e ".$target" ] || : >".$target"
    fi
    mount --bind "$source" ".$target"
    [ "$access" != ro ] || mount -o remount,bind,ro ".$target"
done <<<"$LAB_MOUNTS"

ip link set lo up
hostname "$LAB_NAME"
pivot_root . run/oldroot
cd /
umount -l /run/oldroot
rmdir /run/oldroot
# As a host's systemd has it (in a container it leaves that alone): without it the mounts of
# LoadCredential= never show. Nobody outside shares them.
mount --make-rshared /
# shellcheck disable=SC2086  # words on purpose
exec env -i container=thaw-lab PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --log-level=info $LAB_SYSTEMD </dev/null
