# SPDX-License-Identifier: MIT
"""Shares for VMMs that are not ours: the examples of thaw-shares(7) as they stand there."""

import re
import shutil
import subprocess
import unittest

from thawlab import SOURCE_ROOT, Mount, find_builddir
from thawlab.manual import examples
from thawlab.sharing import DATA, ShareTestCase

QEMU_GUEST = "/opt/thaw-qemu-guest"
# What the example leaves open: a machine that boots a kernel of ours without KVM.
REST = (f"-accel tcg -nodefaults -no-user-config -display none -no-reboot -serial stdio "
        f"-kernel {QEMU_GUEST}/vmlinuz -initrd {QEMU_GUEST}/initrd.gz "
        f"-append 'console=ttyS0 quiet panic=-1' </dev/null")
DOMAIN = """<domain type="qemu">
<name>vm1</name><memory unit="MiB">256</memory><vcpu>1</vcpu>
<os><type arch="x86_64" machine="pc">hvm</type></os>
{}</domain>
"""


class OtherVmmTestCase(ShareTestCase):
    """A folder to share, and the examples with it in place of theirs."""

    DIALECT = "rust"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.run(["mkdir", "-p", f"{DATA}/src"], check=True)
        cls.lab.write(f"{DATA}/src/hello", "hello\n")

    def example(self, heading):
        self._shares.append(("vm1", "src"))
        return [text.replace("/srv/src", f"{DATA}/src") for text in
                examples("thaw-shares.7", heading)]


@unittest.skipUnless(shutil.which("qemu-system-x86_64"), "no qemu-system-x86_64")
class Qemu(OtherVmmTestCase):
    """Without KVM, with a kernel of Debian."""

    @classmethod
    def extra_mounts(cls):
        folder = f"{find_builddir()}/qemu-guest"
        subprocess.run([f"{SOURCE_ROOT}/tests/virtiofs/fetch-qemu-guest", folder], check=True,
                       stdin=subprocess.DEVNULL, timeout=300)
        return (Mount(folder, QEMU_GUEST, read_only=True),)

    def test_the_example(self):
        example, = self.example("QEMU")
        self.assertIn("...", example)
        script = "set -e\n" + example.replace("...", REST)
        ran = self.lab.run(["bash", "-c", script], env={"USER": "root"}, timeout=120)
        self.assertTrue(ran.ok, str(ran))
        out = ran.out.replace("\r", "")
        for line in ("GUEST mounted", "GUEST 1 files", "GUEST read: hello", "GUEST wrote"):
            self.assertIn(line, out)
        self.assertEqual(self.lab.run(["cat", f"{DATA}/src/moved"]).out, "from the guest\n")
        self.assert_nothing_left("vm1", "src")  # with QEMU's end


class QemuC(Qemu):
    """The daemon that Debian 12 has."""

    DIALECT = "c"


@unittest.skipUnless(shutil.which("virsh"), "no virsh")
class Libvirt(OtherVmmTestCase):
    """The domain is looked at by libvirt; nothing runs it here."""

    def test_the_example_is_a_domain_of_libvirt(self):
        command, elements = self.example("libvirt")
        self.lab.run(["useradd", "-r", "libvirt-qemu"])
        opened = self.lab.run(["bash", "-c", command])
        self.assertTrue(opened.ok, str(opened))
        socket = opened.out.strip()
        owner = self.lab.run(["stat", "-c", "%U %a", socket]).out.split()
        self.assertEqual(owner, ["libvirt-qemu", "660"])
        self.lab.write("/run/vm1.xml", DOMAIN.format(elements.replace("SOCKET", socket)))
        valid = self.lab.run(["virt-xml-validate", "/run/vm1.xml", "domain"])
        self.assertTrue(valid.ok, str(valid))
        # libvirt's own parser, with what it makes of it.
        session = self.lab.run(["virsh", "-c", "test:///default",
                                "define --validate /run/vm1.xml; dumpxml vm1"])
        self.assertTrue(session.ok, str(session))
        self.assertRegex(session.out, rf"<source socket='{re.escape(socket)}'/>")
        self.assertRegex(session.out, "<target dir='src'/>")


if __name__ == "__main__":
    unittest.main()
