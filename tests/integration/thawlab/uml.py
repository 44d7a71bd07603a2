# SPDX-License-Identifier: MIT
"""A guest with a real kernel: user-mode Linux as a process of a lab, with shares as its devices."""

import os
import shutil
import subprocess

from .build import SOURCE_ROOT, find_builddir
from .container import Mount

GUEST = "/opt/thaw-guest"
FPU = "uml-fpu.so"
# What the kernel starts: mounts the shares named on its command line below /mnt, runs /script.
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /mnt
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
insmod /fuse.ko; insmod /virtiofs.ko
for tag in $(sed -n 's/.*thaw.tags=\\([^ ]*\\).*/\\1/p' /proc/cmdline | tr , ' '); do
    mkdir -p "/mnt/$tag"
    mount -t virtiofs "$tag" "/mnt/$tag" || echo "no share $tag"
done
echo ---- begin
sh /script 2>&1
echo "---- end $?"
poweroff -f
"""


# A whole system in place of that: the lab's own root, read-only below a tmpfs, with its systemd as
# init; /script runs as a unit once all is up. A module that it may load is in /opt/guest, with busybox.
_SYSTEM_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /lower /rw /new
mount -t proc proc /proc
insmod /overlay.ko
mount -t hostfs none /lower && mount -t tmpfs none /rw && mkdir /rw/upper /rw/work
mount -t overlay none /new -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work || poweroff -f
mount -t devtmpfs dev /new/dev
mkdir -p /new/opt/guest /new/etc/systemd/system/multi-user.target.wants
cp /script /nbd.ko /bin/busybox /new/opt/guest/
cat >/new/opt/guest/run <<'RUN'
exec >/dev/console 2>&1
echo ---- begin
sh /opt/guest/script 2>&1
echo "---- end $?"
sync
poweroff -f -f
RUN
cat >/new/etc/systemd/system/guest.service <<'UNIT'
[Unit]
After=thaw-sharesd.service
[Service]
Type=oneshot
ExecStart=/bin/sh /opt/guest/run
UNIT
ln -s ../guest.service /new/etc/systemd/system/multi-user.target.wants/
umount /proc
exec switch_root /new /lib/systemd/systemd --unit=multi-user.target --log-target=journal
"""


def fetch(suite="sid"):
    """The folder with the kernel of a suite, fetched once per build folder; RuntimeError if it cannot
    be."""
    folder = os.path.join(find_builddir(), "guest" if suite == "sid" else f"guest-{suite}")
    script = os.path.join(SOURCE_ROOT, "tests", "virtiofs", "fetch-guest")
    done = subprocess.run([script, f"--suite={suite}", folder], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"no guest kernel: {done.stdout[-2000:]}")
    # Kernels before 6.13 need it where the CPU has much state.
    shutil.copy2(os.path.join(find_builddir(), "tests", "guests", FPU), folder)
    return folder


def mount(folder):
    return Mount(folder, GUEST, read_only=True)


def run_guest(lab, sockets, script, timeout=120.0):
    """Boots a guest with shares {tag: socket}, runs the script; (its status, what it printed)."""
    return _boot(lab, _INIT, script, timeout, f"thaw.tags={','.join(sockets)}",
                 *(f"virtio_uml.device={path}:26" for path in sockets.values()))


def run_system(lab, script, timeout=120.0):
    """Boots the lab's own root as a machine with all controllers and capabilities, and nothing of the
    host's limits; the rest as run_guest()."""
    return _boot(lab, _SYSTEM_INIT, script, timeout, "systemd.show_status=0")


def _boot(lab, init, script, timeout, *words):
    work = lab.run(["mktemp", "-d", "/dev/shm/guest-XXXXXX"], check=True).out.strip()
    lab.run(["cp", "-a", f"{GUEST}/root/.", work], check=True)
    lab.write(f"{work}/init", init, 0o755)
    lab.write(f"{work}/script", script)
    lab.run(["sh", "-c", f"cd {work} && find . | cpio -o -H newc --quiet | gzip -1 >{work}.cpio"],
            check=True)
    try:
        result = lab.run([f"{GUEST}/linux", "mem=512M", f"initrd={work}.cpio", "con=null",
                          "con0=fd:0,fd:1", "root=/dev/ram0", "rdinit=/init", "quiet", *words],
                         env={"TMPDIR": "/dev/shm", "HOME": work,
                              "LD_PRELOAD": f"{GUEST}/{FPU}"}, timeout=timeout)
    finally:
        lab.run(["rm", "-rf", work, f"{work}.cpio"])
    text = result.out.replace("\r", "")
    _, _, rest = text.partition("---- begin\n")
    printed, mark, status = rest.rpartition("---- end ")
    if not mark:
        raise AssertionError(f"the guest did not come to its end:\n{text[-3000:]}{result.err}")
    return int(status.split()[0]), printed
