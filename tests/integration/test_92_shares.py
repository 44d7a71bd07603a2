# SPDX-License-Identifier: MIT
"""thaw-sharesd with a real virtiofsd in real units: start, refusals, life, adoption."""

import json
import time

from thawlab import busctl, journal, unit, unit_state, virtiofs, wait_for
from thawlab.shares import ERROR, SHARES, SUPERVISOR, LevelTests, ShareTestCase


class Shares(LevelTests, ShareTestCase):
    """What does not depend on the dialect, tried with the C daemon of Debian 12."""

    def test_starts_checks_and_removes(self):
        path, socket = self.added("v-1", "home-x")
        self.assertEqual(socket, "/run/thaw/shares/v-1/home-x.sock")
        self.assertEqual(self.lab.run(["stat", "-c", "%F %a %U:%G", socket]).out.strip(),
                         "socket 660 root:thaw-vmm")
        values = self.share("v-1", tag="home-x")
        self.assertEqual(values["State"], "listening")
        self.assertEqual(values["Dialect"], self.DIALECT)
        self.assertEqual((values["LimitNOFILE"], values["EffectiveLimit"]), (16384, 16384))
        limits = self.lab.run(["cat", f"/proc/{values['MainPID']}/limits"]).out
        self.assertRegex(limits, r"Max open files +16384 +16384 ")
        service = unit(self.lab, values["Unit"], "Slice", "ActiveState")
        self.assertEqual(service, {"Slice": "thaw-v\\x2d1.slice", "ActiveState": "active"})
        self.assertTrue(path.startswith("/org/thaw/shares1/share/"))
        self.assertLess(values["Descriptors"], 64)
        self.assertTrue(self.remove("v-1", "home-x").ok)
        self.assert_nothing_left("v-1", "home-x")
        self.assertEqual(self.shares(), [])

    def test_guest_reads_and_writes_and_its_end_ends_the_share(self):
        _, socket = self.added("guest")
        with virtiofs.Guest(self.lab, socket) as guest:
            self.assertEqual(guest.read(path="file")["data"], "hello\n")
            guest.create(path="new", data="x")
            self.wait_state("guest", "connected")
            self.assertIn("InUse", self.lab.run(
                ["gdbus", "call", "--system", "--dest", SHARES[0], "--object-path", SHARES[1],
                 "--method", f"{SHARES[2]}.RemoveShare", "guest", "data", "0"]).err)
        wait_for(lambda: self.share("guest") is None, 10, "the end of the share")
        self.assert_nothing_left("guest")
        entries = journal(self.lab, "THAW_SHARE=guest:data", "-u", SUPERVISOR)
        self.assertTrue([e for e in entries if e.get("THAW_RESULT") == "peer-gone"], entries)
        self.assertEqual(self.lab.run(["cat", "/run/sources/tmpfs/new"]).out, "x")

    def test_read_only_is_enforced_on_the_host(self):
        _, socket = self.added("ro", ReadOnly=True)
        with virtiofs.Guest(self.lab, socket) as guest:
            self.assertEqual(guest.read(path="file")["data"], "hello\n")
            with self.assertRaises(virtiofs.GuestError) as refused:
                guest.create(path="forbidden", data="x")
            self.assertEqual(refused.exception.errno, "EROFS")
        self.assertFalse(self.lab.exists("/run/sources/tmpfs/forbidden"))

    def test_default_limit_fails_loudly_here(self):
        # 524288 of the sample configuration; systemd clamps to the machine's 20000 and says nothing.
        text = self.assert_refused("LimitTooLow", "limit", LimitNOFILE=524288)
        self.assertIn("20000", text)
        self.added("limit", LimitNOFILE=524288, OnLowLimit="degraded")
        effective, degraded = self.share("limit", "EffectiveLimit", "Degraded")
        self.assertEqual((effective, degraded), (20000, True))
        warned = journal(self.lab, "THAW_SHARE=limit:data", "-p", "warning", "-u", SUPERVISOR)
        self.assertTrue([e for e in warned if "instead of 524288" in e["MESSAGE"]], warned)

    def test_sources_that_are_refused(self):
        self.lab.run(["mkdir", "-p", "/srv/home/.cache/coursier", "/opt/other"], check=True)
        self.assert_refused("SourceNotAllowed", "src", source="/opt/other")
        self.assert_refused("SourceNotAllowed", "src", source="/srvx")
        self.assert_refused("SourceMissing", "src", source="/srv/none")
        self.assert_refused("SourceInvalid", "src", source="/srv/link")
        self.assert_refused("SourceInvalid", "src", source="/srv/link/below")
        self.assert_refused("SourceInvalid", "src", source="/srv/plain/../plain")
        self.assert_refused("SourceInvalid", "src", source="srv")
        text = self.assert_refused("ChurningCache", "src", source="/srv/home/.cache/coursier")
        self.assertIn("thawctl cache warm", text)
        self.added("src", source="/srv/home/.cache/coursier", ReadOnly=True)
        warned = journal(self.lab, "THAW_SHARE=src:data", "-p", "warning", "-u", SUPERVISOR)
        self.assertTrue([e for e in warned if "coursier" in e["MESSAGE"]], warned)

    def test_names_and_options_that_are_refused(self):
        self.assert_refused("InvalidTag", "name", tag="a b")
        self.assert_refused("InvalidTag", "name", tag="x" * 37)
        self.assertEqual(self.error_name("a/b"), ERROR + "InvalidName")
        self.assertEqual(self.error_name("name", Unknown=True),
                         "org.freedesktop.DBus.Error.InvalidArgs")
        self.assertEqual(self.error_name("name", LimitNOFILE=3),
                         "org.freedesktop.DBus.Error.InvalidArgs")
        self.assert_refused("OptionUnsupported", "name", User="nobody")
        self.assert_refused("HandlesUnavailable", "name", InodeFileHandles="mandatory")
        self.added("name")
        self.assertEqual(self.error_name("name"), ERROR + "ShareExists")

    def test_strangers_are_refused(self):
        result, _ = self.add("stranger", user="visitor")
        self.assertFalse(result.ok)
        self.assert_nothing_left("stranger")
        self.added("stranger")
        denied, _ = busctl(self.lab, "call", *SHARES, "RemoveShare", "sst", "stranger", "data", "1",
                           user="visitor")
        self.assertFalse(denied.ok)
        looked, _ = busctl(self.lab, "call", *SHARES, "ListShares", user="visitor")
        self.assertTrue(looked.ok, str(looked))

    def test_socket_folder_full(self):
        self.lab.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "none", "/run/thaw/shares"],
                     check=True)
        self.restart_supervisor()
        try:
            self.assert_refused("SocketFailed", "full")
        finally:
            self.lab.run(["umount", "/run/thaw/shares"], check=True)
            self.restart_supervisor()

    def test_no_daemon_installed(self):
        self.lab.write("/etc/thaw/sharesd.conf.d/x.conf",
                       "[Shares]\nVirtiofsdPath=\nVirtiofsdPath=/opt/none\n")
        self.restart_supervisor()
        try:
            self.assert_refused("DaemonUnavailable", "nobody")
            self.lab.write("/etc/thaw/sharesd.conf.d/x.conf",
                           "[Shares]\nVirtiofsdPath=\nVirtiofsdPath=/bin/false\n")
            self.restart_supervisor()
            self.assert_refused("DaemonUnavailable", "nobody")
        finally:
            self.lab.run(["rm", "/etc/thaw/sharesd.conf.d/x.conf"])
            self.restart_supervisor()

    # ---- life ------------------------------------------------------------------------------------

    def test_killed_daemon_is_a_lost_share(self):
        _, socket = self.added("killed")
        with virtiofs.Guest(self.lab, socket) as guest:
            self.wait_state("killed", "connected")
            self.lab.run(["systemctl", "kill", "-s", "KILL", self.service("killed")], check=True)
            self.wait_state("killed", "failed")
            with self.assertRaises(virtiofs.GuestError):
                guest.read(path="file")
        result, name = self.share("killed", "Result", "ErrorName")
        self.assertEqual((result, name), ("signal", ERROR + "DaemonKilled"))
        lost = journal(self.lab, "THAW_SHARE=killed:data", "-p", "err", "-u", SUPERVISOR)
        self.assertTrue([e for e in lost if e.get("MESSAGE_ID") and "lost" in e["MESSAGE"]], lost)
        self.assertFalse(self.lab.exists(socket))
        self.assertTrue(self.remove("killed").ok)
        self.assert_nothing_left("killed")

    def test_reconnectable_is_restarted_until_the_limit(self):
        self.added("again", Reconnectable=True)
        for restarts in (1, 2):
            self.lab.run(["systemctl", "kill", "-s", "KILL", self.service("again")], check=True)
            wait_for(lambda n=restarts: self.share("again", "State", "NRestarts")
                     == ["listening", n], 15, "the restart")
        self.lab.run(["systemctl", "kill", "-s", "KILL", self.service("again")], check=True)
        self.wait_state("again", "failed")
        self.assertEqual(self.share("again", "ErrorName")[0], ERROR + "RestartLimit")

    def test_reconnectable_outlives_its_client(self):
        _, socket = self.added("reboot", Reconnectable=True)
        for _ in range(3):
            with virtiofs.Guest(self.lab, socket) as guest:
                self.assertEqual(guest.read(path="file")["data"], "hello\n")
                before = self.share("reboot", "NRestarts")[0]
            wait_for(lambda n=before: self.share("reboot", "State", "NRestarts")
                     == ["listening", n + 1], 15, "the next daemon")

    def test_stop_by_the_admin_is_a_normal_end(self):
        self.added("stopped")
        self.lab.run(["systemctl", "stop", self.service("stopped")], check=True)
        wait_for(lambda: self.share("stopped") is None, 10, "the end of the share")
        self.assert_nothing_left("stopped")

    def test_supervisor_killed_adopts(self):
        self.added("plain")
        _, socket = self.added("used")
        with virtiofs.Guest(self.lab, socket) as guest:
            self.wait_state("used", "connected")
            before = self.share("used", "MainPID")
            self.kill_supervisor()
            wait_for(lambda: len(self.shares()) == 2, 10, "both shares")
            self.assertEqual(self.share("used", "MainPID"), before)
            self.assertEqual(self.share("used", "State")[0], "connected")
            self.assertEqual(self.share("plain", "State")[0], "listening")
            self.assertEqual(guest.read(path="file")["data"], "hello\n")
        wait_for(lambda: self.share("used") is None, 10, "the end of the share")
        self.assertTrue(self.remove("plain").ok)
        self.assert_nothing_left("plain")

    def test_both_killed(self):
        self.added("both")
        self.lab.run(["systemctl", "stop", SUPERVISOR], check=True)
        self.assertEqual(unit_state(self.lab, self.service("both")), "active")
        self.lab.run(["systemctl", "kill", "-s", "KILL", self.service("both")], check=True)
        wait_for(lambda: unit_state(self.lab, self.service("both")) == "failed", 5, "its end")
        self.lab.run(["systemctl", "start", SUPERVISOR], check=True)
        self.wait_state("both", "failed")
        self.assertEqual(self.share("both", "ErrorName")[0], ERROR + "DaemonKilled")
        self.assertTrue(self.remove("both").ok)
        self.assert_nothing_left("both")

    def test_interrupted_start_leaves_nothing(self):
        # A record that was never answered for, and settings without any record.
        self.added("cut")
        self.lab.run(["systemctl", "stop", SUPERVISOR], check=True)
        path = "/run/thaw/sharesd/cut:data.json"
        record = json.loads(self.lab.run(["cat", path], check=True).out)
        record["ready"] = False
        self.lab.write(path, json.dumps(record), 0o600)
        self.lab.run(["systemctl", "start", SUPERVISOR], check=True)
        self.assert_nothing_left("cut")
        self.added("bare")
        self.lab.run(["systemctl", "stop", SUPERVISOR], check=True)
        self.lab.run(["rm", "/run/thaw/sharesd/bare:data.json"], check=True)
        self.lab.run(["systemctl", "start", SUPERVISOR], check=True)
        self.assert_nothing_left("bare")
        self.assertEqual(self.shares(), [])

    def test_end_of_the_vm_ends_its_shares(self):
        self.lab.write("/etc/systemd/system/some-vm.service",
                       "[Service]\nExecStart=sleep 1000\n")
        self.added("vm", Unit="some-vm.service")
        self.added("vm", "second", Unit="some-vm.service")
        # Not there yet: a restore starts the shares first.
        time.sleep(0.5)
        self.assertEqual(len(self.shares()), 2)
        self.lab.run(["systemctl", "start", "some-vm.service"], check=True)
        wait_for(lambda: "vm_seen\":true" in self.lab.run(
            ["cat", "/run/thaw/sharesd/vm:data.json"]).out, 5, "the VM being seen")
        self.kill_supervisor()
        wait_for(lambda: len(self.shares()) == 2, 10, "both shares")
        self.lab.run(["systemctl", "stop", "some-vm.service"], check=True)
        wait_for(lambda: self.shares() == [], 10, "the end of the shares")
        for tag in ("data", "second"):
            self.assert_nothing_left("vm", tag)

    def test_fifty_at_once(self):
        begin = time.monotonic()
        calls = [self.lab.popen(["busctl", "call", *SHARES, "AddShare", "sssa{sv}t", f"many{i}",
                                 "data", "/run/sources/tmpfs", "0", "0"]) for i in range(50)]
        self.assertEqual([c.wait(120) for c in calls], [0] * 50)
        print(f"50 shares at once: {time.monotonic() - begin:.1f} s")
        self.assertEqual(len(self.shares()), 50)
        self.assertEqual({row[3] for row in self.shares()}, {"listening"})
        for i in range(50):
            self.assertTrue(self.remove(f"many{i}").ok)
        for i in (0, 49):
            self.assert_nothing_left(f"many{i}")
        self.assertEqual(self.lab.run(["ls", "/run/thaw/shares"]).out, "")
