# SPDX-License-Identifier: MIT
"""Shares that a restore asks for: they come before the VMM and go with it."""

import unittest

from thawlab import busctl, journal, unit, virtiofs, wait_for
from thawlab.shares import CONFIG, SHARES
from thawlab.vms import RESTORE, VmTestCase


class RestoredShares(VmTestCase):
    """Shares that a restore asks for. No VMM of today has virtio-fs and is driven like Firecracker:
    the stand-in passes for one, by a configuration that only this test has."""

    IMAGES = {"small": {"memory_mib": 16},
              "sharing": {"memory_mib": 16, "import_options": ("--vmm", "stand-in")}}

    @classmethod
    def setUpClass(cls):
        folder = virtiofs.fetch()
        if "c" not in virtiofs.available(folder):
            raise unittest.SkipTest("no virtiofsd")
        cls.MOUNTS = (virtiofs.mount(folder),)
        super().setUpClass()
        cls.lab.run(["sh", "-c", "mkdir -p /srv/one /srv/two && echo hello >/srv/one/file"],
                    check=True)

    @classmethod
    def prepare(cls, lab):
        super().prepare(lab)
        lab.write("/etc/thaw/restored.conf.d/test.conf", "[Testing]\nVirtioFsVmms=stand-in\n")
        lab.write("/etc/thaw/sharesd.conf.d/test.conf",
                  CONFIG.format(program=virtiofs.daemon("c")))

    def restore_with(self, name, *shares, image="sharing"):
        """RestoreInstance with (tag, source, options...); (result, error name, message)."""
        self._names.append(name)
        words = [str(len(shares))]
        for tag, source, *options in shares:
            words += [tag, source, str(len(options))]
            for key, kind, value in options:
                words += [key, kind, value]
        result, data = busctl(self.lab, "call", *RESTORE, "RestoreInstance", "ssa{sv}t", name,
                              image, "2", "MemoryBackend", "s", "uffd", "Shares", "a(ssa{sv})",
                              *words, "0")
        self.assertTrue(result.ok, str(result))
        return self.wait_job(data[1])

    def shares(self):
        return {(row[0], row[1]): row for row in busctl(self.lab, "call", *SHARES,
                                                        "ListShares")[1][0]}

    def assert_no_shares(self, name):
        wait_for(lambda: not [s for s in self.shares() if s[0] == name], 10, "the end of shares")
        self.assertFalse(self.lab.exists(f"/run/thaw/shares/{name}"))

    def test_shares_live_as_long_as_the_vm(self):
        end = self.restore_with("with", ("one", "/srv/one"), ("two", "/srv/two",
                                                              ("ReadOnly", "b", "true")))
        self.assertEqual(end[0], "done", end)
        self.assertEqual(sorted(self.shares()), [("with", "one"), ("with", "two")])
        service = "thaw-virtiofsd@with:one.service"
        self.assertEqual(unit(self.lab, service, "Slice")["Slice"], "thaw-with.slice")
        with virtiofs.Guest(self.lab, "/run/thaw/shares/with/one.sock") as guest:
            self.assertEqual(guest.read(path="file")["data"], "hello\n")
            self.lab.run(["thawctl", "stop", "with"], check=True)
        self.assert_no_shares("with")
        self.assert_nothing_left("with")

    def test_a_share_that_cannot_start_fails_the_restore_before_the_vmm(self):
        result, error, message = self.restore_with("bad", ("one", "/srv/one"),
                                                   ("two", "/etc/forbidden"))
        self.assertEqual((result, error), ("failed", "org.thaw.restore1.Error.ShareFailed"))
        self.assertIn("SourceNotAllowed", message)
        self.assertIn("two", message)
        started = journal(self.lab, f"UNIT={self.unit('bad')}")
        self.assertEqual([e for e in started if "Started" in e["MESSAGE"]], [])
        self.assert_no_shares("bad")
        self.assert_nothing_left("bad")
        self.assert_logged("bad", "SourceNotAllowed")

    def test_firecracker_has_none(self):
        result, error, _ = self.restore_with("fire", ("one", "/srv/one"), image="small")
        self.assertEqual((result, error), ("failed", "org.thaw.restore1.Error.SharesUnsupported"))
        self.assert_no_shares("fire")
        self.assert_nothing_left("fire")

    def test_a_lost_share_stops_the_vm_that_wants_it_so(self):
        end = self.restore_with("lose", ("one", "/srv/one", ("OnLoss", "s", "stop")))
        self.assertEqual(end[0], "done", end)
        self.lab.run(["systemctl", "kill", "-s", "KILL", "thaw-virtiofsd@lose:one.service"],
                     check=True)
        wait_for(lambda: "lose" not in self.instances(), 20, "the stop of the VM")
        self.assert_no_shares("lose")
        self.assert_nothing_left("lose")
        self.assert_logged("lose", "is lost")

    def test_a_lost_share_is_told_and_the_vm_runs_on(self):
        end = self.restore_with("keep", ("one", "/srv/one"))
        self.assertEqual(end[0], "done", end)
        self.lab.run(["systemctl", "kill", "-s", "KILL", "thaw-virtiofsd@keep:one.service"],
                     check=True)
        wait_for(lambda: [e for e in journal(self.lab, "THAW_INSTANCE=keep", "-p", "warning", "-u",
                                             "thaw-restored.service") if "lost" in e["MESSAGE"]],
                 15, "the warning")
        self.assert_running("keep")
        self.lab.run(["thawctl", "stop", "keep"], check=True)
        self.assert_no_shares("keep")

    def test_a_share_lost_while_the_manager_was_away(self):
        end = self.restore_with("away", ("one", "/srv/one", ("OnLoss", "s", "stop")))
        self.assertEqual(end[0], "done", end)
        self.lab.run(["systemctl", "stop", "thaw-restored.service"], check=True)
        self.lab.run(["systemctl", "kill", "-s", "KILL", "thaw-virtiofsd@away:one.service"],
                     check=True)
        wait_for(lambda: self.shares().get(("away", "one"), [None] * 4)[3] == "failed", 10, "loss")
        self.lab.run(["systemctl", "start", "thaw-restored.service"], check=True)
        wait_for(lambda: "away" not in self.instances(), 20, "the stop of the VM")
        self.assert_no_shares("away")

    def test_the_end_of_the_vmm_ends_its_shares(self):
        end = self.restore_with("dies", ("one", "/srv/one"))
        self.assertEqual(end[0], "done", end)
        self.lab.run(["systemctl", "kill", "-s", "KILL", self.unit("dies")], check=True)
        self.assert_no_shares("dies")
        self.assert_nothing_left("dies")
