# SPDX-License-Identifier: MIT
"""What an admin does: VMs at boot, thawctl in its forms, the doctor."""

import json

from thawlab import unit
from thawlab.vms import VmTestCase


class Admin(VmTestCase):
    """systemctl and thawctl."""

    def test_instance_unit(self):
        self._names.append("web")
        self.lab.write("/etc/thaw/instances/web.conf", "[Instance]\nImage=small\n"
                       "MemoryBackend=uffd\n")
        self.lab.run(["systemctl", "enable", "--now", "thaw-instance@web.service"], check=True)
        self.assert_running("web")
        self.assert_memory_right("web")
        self.lab.run(["systemctl", "stop", "thaw-instance@web.service"], check=True)
        self.assert_nothing_left("web")

    def test_instance_unit_shows_the_error(self):
        self.profile("sad", load_error="no such CPU feature")
        self.lab.write("/etc/thaw/instances/sad.conf", "[Instance]\nImage=small\n"
                       "MemoryBackend=uffd\n")
        failed = self.lab.run(["systemctl", "start", "thaw-instance@sad.service"])
        self.assertFalse(failed.ok)
        status = self.lab.run(["systemctl", "status", "--no-pager", "thaw-instance@sad.service"])
        self.assertIn("no such CPU feature", status.out)
        self.assert_nothing_left("sad")

    def test_json(self):
        self.assertTrue(self.restore("jay").ok)
        for verb in (["list"], ["jobs"], ["status", "jay"], ["sessions"], ["image", "list"],
                     ["image", "show", "small"]):
            with self.subTest(verb=verb):
                done = self.lab.run(["thawctl", "--json=short", *verb])
                self.assertTrue(done.ok, str(done))
                json.loads(done.out)

    def test_doctor(self):
        done = self.lab.run(["thawctl", "doctor"])
        self.assertIn("userfaultfd", done.out)
        self.assertTrue(done.ok, str(done))
        self.lab.run(["chmod", "600", "/dev/userfaultfd"], check=True)
        try:
            sick = self.lab.run(["thawctl", "doctor"])
            self.assertFalse(sick.ok)
            self.assertIn("systemd-tmpfiles", sick.out + sick.err)
        finally:
            self.lab.run(["systemd-tmpfiles", "--create"])

    def test_image_verbs(self):
        self.make_image("spare", memory_mib=8)
        self.assertTrue(self.lab.run(["thawctl", "image", "verify", "spare"]).ok)
        self.assertIn("spare", self.lab.run(["thawctl", "image", "list"]).out)
        self.lab.run(["sh", "-c", "printf x | dd of=/var/lib/thaw/images/spare/memory bs=1 "
                      "seek=5000 conv=notrunc status=none"], check=True)
        bad = self.lab.run(["thawctl", "image", "verify", "spare"])
        self.assertFalse(bad.ok)
        self.assertTrue(self.lab.run(["thawctl", "image", "rm", "spare"]).ok)
        self.assertNotIn("spare", self.lab.run(["thawctl", "image", "list"]).out)

    def test_without_the_daemon(self):
        self.lab.run(["systemctl", "mask", "--runtime", "--now", "thaw-restored.service"],
                     check=True)
        try:
            refused = self.lab.run(["thawctl", "list"])
            self.assertFalse(refused.ok)
            self.assertTrue(refused.err)
        finally:
            self.lab.run(["systemctl", "unmask", "--runtime", "thaw-restored.service"])
            self.lab.run(["systemctl", "start", "thaw-restored.service"], check=True)

    def test_enabled_units(self):
        for name in ("thaw-restored.service", "thaw-pagerd.service", "thaw-pagerd.socket"):
            self.assertEqual(unit(self.lab, name, "ActiveState")["ActiveState"], "active")
