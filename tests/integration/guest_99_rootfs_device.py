# SPDX-License-Identifier: MIT
"""Overlays as block devices, where a kernel has them: user-mode Linux boots the lab's own root with
its systemd, and there the stand-in VMM opens /dev/nbdN."""

import re
import unittest

from thawlab import uml
from thawlab.vms import PROFILES, VmTestCase

BASE = "/var/lib/thaw/images/base.raw"
# Whoever has one of the three devices is told by the kernel (sysfs) and by nbd-client.
_PRELUDE = f"""
set -eu
/opt/guest/busybox insmod /opt/guest/nbd.ko nbds_max=3
systemctl start thaw-restored.service
restore() {{
    local name=$1
    shift
    thawctl restore $name disk --memory-backend=file --rootfs={BASE} --rootfs-drive=root "$@"
}}
pid_of() {{ systemctl show -P MainPID "$1.service"; }}
in_vm() {{
    local name=$1
    shift
    nsenter -t "$(pid_of "thaw-firecracker@$name")" -m "$@"
}}
free() {{
    [ -z "$(ls -d /sys/block/nbd*/pid 2>/dev/null)" ] || return 1
    for n in 0 1 2; do ! nbd-client -c /dev/nbd$n || return 1; done
    [ -z "$(ls -A /dev/thaw)" ]
}}
await() {{
    local n
    for n in $(seq 150); do ! "$@" >/dev/null 2>&1 || return 0; sleep 0.1; done
    echo "waited in vain for: $*"
    systemctl list-units --all --no-legend --no-pager 'thaw-*@*'
    journalctl -q -o cat -n 60
    return 1
}}
no_vm() {{ ! thawctl list --no-legend --no-pager | grep -q .; }}
all_gone() {{
    no_vm && free && [ -z "$(ls -A /run/thaw/rootfs)" ] && ! ls -d /run/systemd/system/thaw-*@*.d &&
        ! systemctl list-units --all --no-legend 'thaw-nbd@*' 'thaw-rootfs*@*' | grep -q .
}}
"""


class Devices(VmTestCase):
    IMAGES = {"disk": {"memory_mib": 16, "drive": "root.img",
                       "import_options": ("--drive", "root=root.img")}}

    @classmethod
    def setUpClass(cls):
        cls.MOUNTS = (uml.mount(uml.fetch()),)
        super().setUpClass()
        cls.lab.run(["sh", "-c", f"head -c 8M /dev/urandom >{BASE} && "
                     f"chgrp thaw-vmm {BASE} && chmod 0640 {BASE}"], check=True)

    def system(self, script, timeout=180):
        status, out = uml.run_system(self.lab, _PRELUDE + script, timeout=timeout)
        self.assertEqual(status, 0, out)
        return out

    def test_the_drive_is_the_overlay_and_no_other_vm_reaches_it(self):
        out = self.system(f"""
restore web
restore other
cmp /dev/thaw/web {BASE}
# As the VMM has it: the node in the place of the drive, opened.
ls -l /proc/$(pid_of thaw-firecracker@web)/fd | grep -q 'root.img$'
echo "timeout $(cat /sys/block/nbd0/queue/io_timeout)"
# Written as a VMM does, and not synced: an export has it all the same.
head -c 1M /dev/urandom >/run/data
in_vm web setpriv --reuid=thaw-vm-web --regid=thaw-vmm --clear-groups \\
    dd of=/run/thaw/vm/web/root.img bs=1M seek=3 conv=notrunc,nocreat status=none </run/data
thawctl rootfs export web /run/delta
thawctl rootfs import /run/delta /run/disk --base={BASE}
cmp /run/disk /dev/thaw/web
cmp -n 1048576 -i 3145728:0 /run/disk /run/data
cmp /dev/thaw/other {BASE}
echo "dirty $(thawctl rootfs list --json=short)"
for place in /dev/thaw/web /dev/nbd0 /run/thaw/vm/web/root.img; do
    ! in_vm other setpriv --reuid=thaw-vm-other --regid=thaw-vmm --clear-groups head -c 1 $place
done
nbd-client -c /dev/nbd0
thawctl doctor --no-pager | grep overlays.nbd:
thawctl stop web
cmp /dev/thaw/other {BASE}
thawctl stop other
await all_gone
""")
        self.assertIn("timeout 90000", out)
        self.assertRegex(out, r'"dirty_bytes": ?1048576')
        self.assertEqual(len(re.findall("Permission denied|No such file", out)), 3, out)
        self.assertIn("the kernel has 3 nbd devices, 2 in use", out)

    def test_whoever_dies_nothing_stays_attached_and_the_vm_is_stopped(self):
        self.system("""
for service in thaw-rootfs thaw-nbd thaw-firecracker; do
    restore web
    kill -KILL $(pid_of $service@web)
    await all_gone
done
# Also when the manager was away meanwhile.
restore web
systemctl stop thaw-restored.service
kill -KILL $(pid_of thaw-nbd@web)
systemctl start thaw-restored.service
await all_gone
# A server that is stuck holds nobody up.
restore web
systemctl kill -s STOP thaw-rootfs@web
timeout 5 systemctl stop thaw-nbd@web
await all_gone
journalctl -q -o cat -p err --no-pager | grep 'stopping web: its root file system is lost'
journalctl -q -o cat -p err --no-pager | grep 'is detached from /dev/nbd0: its server is gone'
""")

    def test_what_was_written_to_a_durable_one_is_found_again(self):
        self.system("""
head -c 1M /dev/urandom >/run/data
restore web --rootfs-durable
dd if=/run/data of=/dev/thaw/web bs=1M seek=5 conv=notrunc,nocreat status=none
thawctl stop web
await all_gone
restore web --rootfs-durable
cmp -n 1048576 -i 5242880:0 /dev/thaw/web /run/data
# The server comes back by itself, the device does not: the VM is stopped.
kill -KILL $(pid_of thaw-rootfs@web)
await all_gone
restore web --rootfs-durable
cmp -n 1048576 -i 5242880:0 /dev/thaw/web /run/data
""")

    def test_a_restore_that_fails_leaves_no_device(self):
        out = self.system(f"""
mkdir -p {PROFILES}
echo '{{"load_error": "no"}}' >{PROFILES}/web.json
! restore web
await all_gone
rm {PROFILES}/web.json
for name in a b c; do restore $name; done
! restore d
await eval '! systemctl list-units --all --no-legend "thaw-*@d*" | grep .'
journalctl -q -t thaw-nbd -o cat --no-pager
thawctl doctor --no-pager | grep overlays.nbd: || true
""")
        self.assertIn("LoadFailed", out)
        self.assertIn("start of thaw-nbd@d.service ended with", out)
        self.assertIn("all nbd devices are in use", out)
        self.assertIn("3 nbd devices, 3 in use", out)

    def test_twenty_attempts_that_are_killed_at_any_moment(self):
        self.system("""
for n in $(seq 20); do
    restore web --no-block >/dev/null
    case $((n % 4)) in
    0) victim=thaw-rootfs ;;
    1) victim=thaw-firecracker ;;
    *) victim=thaw-nbd ;;
    esac
    # From its first moment until after the VM runs.
    until pid=$(pid_of $victim@web) && [ $pid != 0 ]; do :; done
    sleep $(awk "BEGIN { print $n * $n * 0.002 }")
    kill -KILL $pid
    # Refused while the restore is at work.
    await eval 'thawctl stop web --ignore-missing; all_gone'
done
restore web
thawctl stop web
await all_gone
""", timeout=300)


if __name__ == "__main__":
    unittest.main()
