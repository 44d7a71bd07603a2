# SPDX-License-Identifier: MIT
"""Deaths while a guest works, and refusals as a user of thawctl meets them."""

import unittest

from thawlab import virtiofs
from thawlab.inside import main_pid, unit, wait_for
from thawlab.sharing import DATA, UNKNOWN, ShareTestCase, dialects_of
from thawlab.virtiofs import GuestError

SUPERVISOR = "thaw-sharesd.service"


class FailureTestCase(ShareTestCase):
    """A folder to share, and how to kill."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        virtiofs.make_tree(cls.lab, f"{DATA}/files", 3, 5)

    def kill(self, *pids):
        self.lab.run(["kill", "-KILL", *map(str, pids)])

    def kill_supervisor(self):
        pid = main_pid(self.lab, SUPERVISOR)
        self.kill(pid)
        wait_for(lambda: main_pid(self.lab, SUPERVISOR) not in (0, pid), 10, "a new supervisor")


class Refusals(FailureTestCase):
    """Requests that must not start anything."""

    def logged_refusal(self, tag, text):
        self.assert_logged(text, f"THAW_SHARE=web:{tag}")

    def test_a_source_that_is_not_there(self):
        result = self.refused("SourceMissing", "web", "bad", f"{DATA}/missing")
        self.assertEqual(result.rc, 3)
        self.logged_refusal("bad", "missing")

    def test_a_source_that_is_not_allowed(self):
        result = self.refused("SourceNotAllowed", "web", "bad", "/etc")
        self.assertEqual(result.rc, 4)
        self.refused("SourceNotAllowed", "web", "bad", "/run/database")  # a prefix is no parent
        self.logged_refusal("bad", "/etc")

    def test_ways_around_the_list(self):
        self.lab.run(["ln", "-sfn", "/etc", f"{DATA}/link"], check=True)
        self.lab.run(["ln", "-sfn", "files", f"{DATA}/inner"], check=True)
        self.lab.run(["touch", f"{DATA}/plain"], check=True)
        for source in (f"{DATA}/../etc", f"{DATA}/link", f"{DATA}/link/ssl", f"{DATA}/inner",
                       f"{DATA}/./files", f"{DATA}//files", f"{DATA}/plain"):
            with self.subTest(source=source):
                self.refused("SourceInvalid", "web", "bad", source)

    def test_tags(self):
        for tag in ("a/b", "..", "-x", "a" * 37, "a b", "ä", "a:b"):
            with self.subTest(tag=tag):
                result = self.lab.run(["thawctl", "share", "add", "--", "web", tag,
                                       f"{DATA}/files"])
                self.assertFalse(result.ok, str(result))
                self.assertIn("InvalidTag:", result.err)

    def test_mandatory_handles_without_the_capability(self):
        self.refused("HandlesUnavailable", "web", "user", f"{DATA}/files", "--user=visitor",
                     "--file-handles=mandatory")

    def test_the_same_share_twice(self):
        self.share("web", "files", f"{DATA}/files")
        again = self.lab.run(["thawctl", "share", "add", "web", "files", f"{DATA}/files"])
        self.assertIn("ShareExists:", again.err)
        self.assertEqual(self.property("web", "files", "State"), "listening")

    def test_callers_without_leave(self):
        result = self.add("web", "files", f"{DATA}/files", "--no-ask-password", user="visitor")
        self.assertFalse(result.ok)
        self.assertEqual(result.rc, 4, str(result))
        self.assertNotIn(("web", "files"), self.listed())


@dialects_of
class Deaths(FailureTestCase):
    """Kill -9 of each party, with each dialect."""

    def test_the_daemon(self):
        signals = self.watch_signals()
        guest = self.guest(self.share("web", "files", f"{DATA}/files"))
        guest.look(path="d0")
        self.wait_property("web", "files", "State", "connected")
        self.kill(self.property("web", "files", "WorkerPID"))
        self.wait_property("web", "files", "State", "failed")
        share = self.properties("web", "files")
        self.assertEqual(share["Result"], "signal")
        self.assertEqual(share["ErrorName"], "org.thaw.shares1.Error.DaemonKilled")
        with self.assertRaises(GuestError) as gone:
            guest.look(path="d0")
        self.assertTrue(gone.exception.gone)
        lost = [data for member, data in signals() if member == "Lost"]
        self.assertEqual([data[:2] for data in lost],
                         [["signal", "org.thaw.shares1.Error.DaemonKilled"]])
        # The C daemon's outer process does not tell by what.
        self.assert_logged("killed in its sandbox" if self.DIALECT == "c" else "SIGKILL",
                           "THAW_SHARE=web:files", "-p", "err")

    def test_a_system_call_that_is_not_allowed(self):
        # The init of a namespace of its own takes that signal from seccomp alone.
        guest = self.guest(self.share("web", "files", f"{DATA}/files", "--sandbox=chroot"))
        guest.look(path="d0")
        self.wait_property("web", "files", "State", "connected")
        self.lab.run(["kill", "-SYS", str(self.property("web", "files", "WorkerPID"))])
        self.wait_property("web", "files", "State", "failed")
        share = self.properties("web", "files")
        self.assertEqual((share["Result"], share["ErrorName"]),
                         ("seccomp", "org.thaw.shares1.Error.SeccompKill"))

    def test_the_daemon_of_a_reconnectable_share(self):
        socket = self.share("web", "again", f"{DATA}/files", "--reconnectable")
        for restarts in (1, 2):
            guest = self.guest(socket)
            self.assertEqual(guest.read(path="d0/f0")["data"], "hi\n")
            self.wait_property("web", "again", "State", "connected")
            self.kill(self.property("web", "again", "WorkerPID"))
            self.wait_property("web", "again", "NRestarts", restarts)
            self.wait_property("web", "again", "State", "listening")

    def test_the_supervisor(self):
        guest = self.guest(self.share("web", "files", f"{DATA}/files"))
        self.share("web", "idle", f"{DATA}/files")
        guest.look(path="d0")
        self.wait_property("web", "files", "State", "connected")
        before = {tag: self.properties("web", tag) for tag in ("files", "idle")}
        self.kill_supervisor()
        self.assertEqual(guest.read(path="d0/f0")["data"], "hi\n")
        for tag, state in (("files", "connected"), ("idle", "listening")):
            self.wait_property("web", tag, "State", state)
            after = self.properties("web", tag)
            for key in ("MainPID", "WorkerPID", "Socket", "Source", "StartTimestamp", "Owner",
                        "InodeFileHandles", "EffectiveLimit", "DescriptorBudget", "ReadOnly"):
                self.assertEqual(after[key], before[tag][key], (tag, key))
        other = self.guest(before["idle"]["Socket"])  # still takes its VMM
        self.assertEqual(other.walk()["errors"], {})
        other.close()
        self.assert_nothing_left("web", "idle")

    def test_both(self):
        guest = self.guest(self.share("web", "files", f"{DATA}/files"))
        guest.look(path="d0")
        self.wait_property("web", "files", "State", "connected")
        self.kill(main_pid(self.lab, SUPERVISOR), self.property("web", "files", "WorkerPID"))
        self.wait_property("web", "files", "State", "failed")
        self.assertEqual(self.property("web", "files", "ErrorName"),
                         "org.thaw.shares1.Error.DaemonKilled")

    def test_a_guest_that_left_while_nobody_looked(self):
        guest = self.guest(self.share("web", "files", f"{DATA}/files"))
        guest.look(path="d0")
        self.lab.run(["systemctl", "stop", SUPERVISOR], check=True)
        guest.kill()
        service, _ = self.units("web", "files")
        wait_for(lambda: unit(self.lab, service, "ActiveState")["ActiveState"] != "active", 10,
                 "the daemon's end")
        self.lab.run(["systemctl", "start", SUPERVISOR], check=True)
        self.assert_nothing_left("web", "files")

    def test_a_lost_record_takes_nothing_from_a_guest(self):
        guest = self.guest(self.share("web", "files", f"{DATA}/files"))
        self.share("web", "idle", f"{DATA}/files")
        guest.look(path="d0")
        self.lab.run(["systemctl", "stop", SUPERVISOR], check=True)
        self.lab.write("/run/thaw/sharesd/web:files.json", "{}")
        self.lab.run(["rm", "/run/thaw/sharesd/web:idle.json"], check=True)
        self.lab.run(["systemctl", "start", SUPERVISOR], check=True)
        self.assert_nothing_left("web", "idle")
        self.assert_logged("a VMM is connected", "THAW_SHARE=web:files")
        self.assertEqual(guest.read(path="d0/f0")["data"], "hi\n")
        again = self.lab.run(["thawctl", "share", "add", "web", "files", f"{DATA}/files"])
        self.assertIn("ShareExists:", again.err)
        guest.close()
        self.assert_nothing_left("web", "files")

    def test_what_cannot_be_counted_is_an_alarm(self):
        guest = self.guest(self.share("web", "files", f"{DATA}/files"))
        guest.look(path="d0")
        self.wait_property("web", "files", "State", "connected")
        # The daemon's processes are hidden from the supervisor, and run on.
        inside = ["nsenter", "-t", str(main_pid(self.lab, SUPERVISOR)), "-m"]
        hidden = f"/proc/{self.property('web', 'files', 'MainPID')}"
        self.lab.run([*inside, "mount", "-t", "tmpfs", "none", hidden], check=True)
        self.wait_property("web", "files", "DescriptorLevel", "unknown")
        self.assertEqual(self.property("web", "files", "Descriptors"), UNKNOWN)
        self.assert_logged("cannot be counted", "THAW_SHARE=web:files", "-p", "err")
        self.assertEqual(guest.read(path="d0/f0")["data"], "hi\n")
        self.lab.run([*inside, "umount", hidden], check=True)
        self.wait_property("web", "files", "DescriptorLevel", "normal")
        self.assertEqual(self.property("web", "files", "State"), "connected")

    def test_the_vms_end_is_the_shares_end(self):
        self.lab.run(["systemd-run", "--unit=vm-of-the-test", "sleep", "600"], check=True)
        self.addCleanup(self.lab.run, ["systemctl", "stop", "vm-of-the-test"])
        self.share("web", "files", f"{DATA}/files", "--unit=vm-of-the-test.service")
        self.share("web", "more", f"{DATA}/files", "--unit=vm-of-the-test.service")
        self.lab.run(["systemctl", "kill", "-s", "KILL", "vm-of-the-test"], check=True)
        self.assert_nothing_left("web", "files")
        self.assert_nothing_left("web", "more")


class Many(FailureTestCase):
    """Fifty at once."""

    COUNT = 50

    def test_fifty_at_once(self):
        script = ("n=$1; source=$2; for i in $(seq $n); do "
                  "thawctl share add many t$i $source --json=short & done; wait")
        self._shares += [("many", f"t{i}") for i in range(1, self.COUNT + 1)]
        result = self.lab.run(["sh", "-c", script, "sh", str(self.COUNT), f"{DATA}/files"],
                              timeout=120)
        self.assertEqual(result.out.count('"socket"'), self.COUNT, result.err)
        self.assertEqual(len(self.listed()), self.COUNT)
        for tag in ("t1", f"t{self.COUNT}"):
            guest = self.guest(self.property("many", tag, "Socket"))
            self.assertEqual(guest.read(path="d0/f0")["data"], "hi\n")
        self.kill_supervisor()
        wait_for(lambda: len(self.listed()) == self.COUNT, 20, "all shares after the restart")


if __name__ == "__main__":
    unittest.main()
