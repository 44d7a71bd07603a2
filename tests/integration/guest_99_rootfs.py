# SPDX-License-Identifier: MIT
"""A kernel of Debian boots from an overlay and writes to it: QEMU without KVM."""

import re
import shutil
import subprocess
import unittest

from thawlab import SOURCE_ROOT, Mount, find_builddir
from thawlab.vms import VmTestCase

GUEST = "/opt/thaw-rootfs-guest"
BASE = "/var/lib/thaw/images/rootfs.ext4"


@unittest.skipUnless(shutil.which("qemu-system-x86_64"), "no qemu-system-x86_64")
class GuestOnAnOverlay(VmTestCase):
    """The overlay is a VM's of the stand-in; QEMU is the client of its blocks."""

    IMAGES = {"small": {"memory_mib": 16}}

    @classmethod
    def setUpClass(cls):
        folder = f"{find_builddir()}/rootfs-guest"
        subprocess.run([f"{SOURCE_ROOT}/tests/rootfs/fetch-guest", folder], check=True,
                       stdin=subprocess.DEVNULL, timeout=300)
        cls.MOUNTS = (Mount(folder, GUEST, read_only=True),)
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.lab.run(["sh", "-c", f"cp {GUEST}/rootfs.ext4 {BASE} && chgrp thaw-vmm {BASE} && "
                      f"chmod 0640 {BASE}"], check=True)

    def restore_on_base(self, *options):
        self._names.append("guest")
        self.lab.run(["thawctl", "restore", "guest", "small", f"--rootfs={BASE}", *options],
                     check=True)

    def boot(self):
        """What the guest said, after it has powered off."""
        ran = self.lab.run(
            ["qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-cpu", "max", "-m", "256M",
             "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
             "-kernel", f"{GUEST}/vmlinuz", "-initrd", f"{GUEST}/initrd.gz",
             "-append", "console=ttyS0 quiet panic=-1", "-drive",
             "file=nbd+unix:///?socket=/run/thaw/rootfs/guest/nbd.sock,format=raw,if=virtio"],
            timeout=180)
        self.assertIn("GUEST done", ran.out, str(ran))
        return dict(re.findall(r"GUEST (\w+) (\S.*?)\r?\n", ran.out))

    def test_it_boots_writes_and_what_is_exported_is_what_it_wrote(self):
        self.restore_on_base("--rootfs-memory=2M")
        said = self.boot()
        self.assertEqual((said["root"], said["boots"]), ("ext4 rw,relatime", "1"))
        self.lab.run(["thawctl", "rootfs", "export", "guest", "/run/changes"], check=True)
        self.lab.run(["thawctl", "rootfs", "import", "/run/changes", "/run/disk", f"--base={BASE}"],
                     check=True)
        same = self.lab.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", "/run/disk",
                             "nbd+unix:///?socket=/run/thaw/rootfs/guest/nbd.sock"])
        self.assertTrue(same.ok, str(same))
        # The guest's own word for it, and a file system that nothing is wrong with.
        self.lab.run(["e2fsck", "-fn", "/run/disk"], check=True)
        self.lab.run(["debugfs", "-R", "dump /data /run/data", "/run/disk"], check=True)
        self.assertEqual(self.lab.run(["sha256sum", "/run/data"]).out.split()[0], said["sum"])
        # Nothing of it is in the base.
        self.assertTrue(self.lab.run(["cmp", BASE, f"{GUEST}/rootfs.ext4"]).ok)

    def test_a_durable_one_is_found_again(self):
        for boots in ("1", "2"):
            self.restore_on_base("--rootfs-durable")
            self.assertEqual(self.boot()["boots"], boots)
            self.lab.run(["thawctl", "stop", "guest"], check=True)


if __name__ == "__main__":
    unittest.main()
