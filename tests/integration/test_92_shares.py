# SPDX-License-Identifier: MIT
"""thaw-sharesd with real virtiofsd in real units: start, refusals, budget, life, adoption."""

import json
import re
import time
import unittest

from thawlab import busctl, escape, journal, main_pid, unit, unit_state, virtiofs, wait_for
from thawlab.testcase import LabTestCase
from thawlab.vms import RESTORE, VmTestCase

SHARES = ("org.thaw.shares1", "/org/thaw/shares1", "org.thaw.shares1.Manager")
SHARE = "org.thaw.shares1.Share"
ERROR = "org.thaw.shares1.Error."
_SUPERVISOR = "thaw-sharesd.service"
_CONFIG = """[Shares]
AllowedSources=/srv /run/sources
LimitNOFILE=16384
VirtiofsdPath={program}
RestartDelaySec=100ms
RestartLimit=2
RestartIntervalSec=20s
"""


class ShareTestCase(LabTestCase):
    """Shares of one dialect; 16384 descriptors each, as the test machines give no more."""

    DIALECT = "c"

    @classmethod
    def setUpClass(cls):
        folder = virtiofs.fetch()
        if cls.DIALECT not in virtiofs.available(folder):
            raise unittest.SkipTest(f"no virtiofsd of dialect {cls.DIALECT}")
        cls.MOUNTS = (virtiofs.mount(folder),)
        super().setUpClass()
        cls.lab.run(["sh", "-c", "mkdir -p /srv/plain/below /run/sources/tmpfs"
                     " && mount -t tmpfs none /run/sources/tmpfs"
                     " && echo hello >/run/sources/tmpfs/file && ln -s plain /srv/link"],
                    check=True)
        cls.restart_supervisor()

    @classmethod
    def restart_supervisor(cls):
        """After a mount: in a container they don't reach the namespaces that are there already."""
        cls.lab.run(["systemctl", "restart", _SUPERVISOR], check=True)

    @classmethod
    def prepare(cls, lab):
        lab.write("/etc/thaw/sharesd.conf.d/test.conf",
                  _CONFIG.format(program=virtiofs.daemon(cls.DIALECT)))

    def tearDown(self):
        for row in self.shares():
            busctl(self.lab, "call", *SHARES, "RemoveShare", "sst", row[0], row[1], "1")
        super().tearDown()

    # ---- the supervisor --------------------------------------------------------------------------

    def add(self, name, tag="data", source="/run/sources/tmpfs", user=None, **options):
        """AddShare; (Result, [object, socket] or None). Options by their type in Python."""
        words = [str(len(options))]
        for key, value in options.items():
            if isinstance(value, bool):
                words += [key, "b", "true" if value else "false"]
            elif isinstance(value, int):
                words += [key, "u" if key == "ThreadPoolSize" else "t", str(value)]
            elif isinstance(value, list):
                words += [key, "as", str(len(value)), *value]
            else:
                words += [key, "s", value]
        return busctl(self.lab, "call", *SHARES, "AddShare", "sssa{sv}t", name, tag, source, *words,
                      "0", user=user)

    def added(self, name, *arguments, **options):
        result, data = self.add(name, *arguments, **options)
        self.assertTrue(result.ok, str(result))
        return data

    def remove(self, name, tag="data", flags=0):
        return busctl(self.lab, "call", *SHARES, "RemoveShare", "sst", name, tag, str(flags))[0]

    def shares(self):
        result, data = busctl(self.lab, "call", *SHARES, "ListShares")
        self.assertTrue(result.ok, str(result))
        return data[0]

    def share(self, name, *properties, tag="data"):
        """Properties of a share, all if none is named; None if it is gone."""
        result, data = busctl(self.lab, "call", *SHARES, "GetShare", "ss", name, tag)
        if not result.ok:
            return None
        result, values = busctl(self.lab, "call", SHARES[0], data[0],
                                "org.freedesktop.DBus.Properties", "GetAll", "s", SHARE)
        if not result.ok:
            return None
        values = {key: value["data"] for key, value in values[0].items()}
        return values if not properties else [values[p] for p in properties]

    def wait_state(self, name, state, timeout=15.0):
        return wait_for(lambda: (self.share(name) or {}).get("State") == state, timeout,
                        f"state {state} of {name} ({self.share(name)})")

    def service(self, name, tag="data"):
        return f"thaw-virtiofsd@{escape(self.lab, name)}:{escape(self.lab, tag)}.service"

    def assert_refused(self, error, name, *arguments, **options):
        """AddShare fails with this error, says so in the journal and leaves nothing."""
        result, _ = self.add(name, *arguments, **options)
        self.assertFalse(result.ok, str(result))
        # busctl prints the text alone; the journal has the name.
        entries = [e for e in journal(self.lab, f"THAW_INSTANCE={name}", "-u", _SUPERVISOR)
                   if e.get("MESSAGE_ID") and e.get("PRIORITY") == "3"]
        self.assertTrue(entries, "no entry in the journal")
        if error is not None:
            name_on_bus = self.error_name(name, *arguments, **options)
            self.assertEqual(name_on_bus, ERROR + error, str(result))
        self.assert_nothing_left(name)
        return result.err

    def error_name(self, name, tag="data", source="/run/sources/tmpfs", **options):
        """The same call by gdbus, which prints names of errors."""
        words = []
        for key, value in options.items():
            if isinstance(value, bool):
                words.append(f"'{key}': <{'true' if value else 'false'}>")
            elif isinstance(value, int):
                words.append(f"'{key}': <uint64 {value}>")
            else:
                words.append(f"'{key}': <'{value}'>")
        result = self.lab.run(["gdbus", "call", "--system", "--dest", SHARES[0], "--object-path",
                               SHARES[1], "--method", f"{SHARES[2]}.AddShare", name, tag, source,
                               "{" + ", ".join(words) + "}" if words else "@a{sv} {}", "0"])
        found = re.search(r"GDBus\.Error:([\w.]+):", result.err)
        return found.group(1) if found else str(result)

    def assert_nothing_left(self, name, tag="data"):
        service = self.service(name, tag)
        wait_for(lambda: unit_state(self.lab, service) == "inactive", 10, f"the end of {service}")
        socket = service.replace(".service", ".socket")
        self.assertEqual(unit_state(self.lab, socket), "inactive")
        for path in (f"/run/systemd/system/{service}.d", f"/run/systemd/system/{socket}.d",
                     f"/run/thaw/shares/{name}", f"/run/thaw/sharesd/{name}:{tag}.json"):
            wait_for(lambda p=path: not self.lab.exists(p), 5, f"the removal of {path}")
        self.assertEqual(self.lab.run(["pgrep", "-f", f"thaw-virtiofsd@{name}"]).out, "")

    def kill_supervisor(self):
        before = main_pid(self.lab, _SUPERVISOR)
        self.lab.run(["systemctl", "kill", "-s", "KILL", _SUPERVISOR], check=True)
        wait_for(lambda: main_pid(self.lab, _SUPERVISOR) not in (0, before)
                 and unit_state(self.lab, _SUPERVISOR) == "active", what="the new supervisor")


class Shares(ShareTestCase):
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
        entries = journal(self.lab, "THAW_SHARE=guest:data", "-u", _SUPERVISOR)
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
        warned = journal(self.lab, "THAW_SHARE=limit:data", "-p", "warning", "-u", _SUPERVISOR)
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
        warned = journal(self.lab, "THAW_SHARE=src:data", "-p", "warning", "-u", _SUPERVISOR)
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
        lost = journal(self.lab, "THAW_SHARE=killed:data", "-p", "err", "-u", _SUPERVISOR)
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
        self.lab.run(["systemctl", "stop", _SUPERVISOR], check=True)
        self.assertEqual(unit_state(self.lab, self.service("both")), "active")
        self.lab.run(["systemctl", "kill", "-s", "KILL", self.service("both")], check=True)
        wait_for(lambda: unit_state(self.lab, self.service("both")) == "failed", 5, "its end")
        self.lab.run(["systemctl", "start", _SUPERVISOR], check=True)
        self.wait_state("both", "failed")
        self.assertEqual(self.share("both", "ErrorName")[0], ERROR + "DaemonKilled")
        self.assertTrue(self.remove("both").ok)
        self.assert_nothing_left("both")

    def test_interrupted_start_leaves_nothing(self):
        # A record that was never answered for, and settings without any record.
        self.added("cut")
        self.lab.run(["systemctl", "stop", _SUPERVISOR], check=True)
        path = "/run/thaw/sharesd/cut:data.json"
        record = json.loads(self.lab.run(["cat", path], check=True).out)
        record["ready"] = False
        self.lab.write(path, json.dumps(record), 0o600)
        self.lab.run(["systemctl", "start", _SUPERVISOR], check=True)
        self.assert_nothing_left("cut")
        self.added("bare")
        self.lab.run(["systemctl", "stop", _SUPERVISOR], check=True)
        self.lab.run(["rm", "/run/thaw/sharesd/bare:data.json"], check=True)
        self.lab.run(["systemctl", "start", _SUPERVISOR], check=True)
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

    # ---- budget ----------------------------------------------------------------------------------

    def test_levels_before_exhaustion_and_back(self):
        virtiofs.make_tree(self.lab, "/run/sources/tmpfs/tree", 30, 30)
        _, socket = self.added("budget", LimitNOFILE=1024,
                               **({} if self.DIALECT == "c" else {"InodeFileHandles": "never"}))
        with virtiofs.Guest(self.lab, socket) as guest:
            walked = guest.walk(path="tree")
            self.wait_state("budget", "connected" if self.DIALECT == "c" else "exhausted")
            if self.DIALECT != "c":
                self.assertIn("ENFILE", walked["errors"])
            self.assertEqual(self.share("budget", "DescriptorLevel")[0], "high"
                             if self.DIALECT == "c" else "critical")
            guest.forget()
            wait_for(lambda: self.share("budget", "DescriptorLevel")[0] == "normal", 10,
                     "the level's way back")
            self.assertEqual(self.share("budget", "State")[0], "connected")
        entries = journal(self.lab, "THAW_SHARE=budget:data", "THAW_RESOURCE=descriptors")
        levels = [e["THAW_LEVEL"] for e in entries]
        self.assertEqual(levels[:2], ["elevated", "high"], levels)
        self.assertEqual(levels[-1], "normal", levels)


class RustShares(ShareTestCase):
    """What only the Rust daemon has."""

    DIALECT = "rust"

    def test_file_handles(self):
        self.added("handles", InodeFileHandles="mandatory")
        self.assertEqual(self.share("handles", "InodeFileHandles")[0], "mandatory")
        self.added("auto")
        self.assertEqual(self.share("auto", "InodeFileHandles")[0], "prefer")
        # The container's root is an overlay, which has none.
        text = self.assert_refused("HandlesUnavailable", "overlay", source="/srv/plain",
                                   InodeFileHandles="mandatory")
        self.assertIn("/srv/plain", text)
        self.added("overlay", source="/srv/plain")
        mode, reason = self.share("overlay", "InodeFileHandles", "FileHandlesReason")
        self.assertEqual(mode, "never")
        self.assertIn("file handle", reason)

    def test_mount_below_without_handles(self):
        self.lab.run(["sh", "-c", "mkdir -p /run/sources/tmpfs/mnt /srv/l /run/u /run/w && "
                      "mount -t overlay none -o lowerdir=/srv/l,upperdir=/run/u,workdir=/run/w "
                      "/run/sources/tmpfs/mnt"], check=True)
        self.restart_supervisor()
        try:
            text = self.assert_refused("HandlesUnavailable", "below", InodeFileHandles="mandatory")
            self.assertIn("/run/sources/tmpfs/mnt", text)
        finally:
            self.lab.run(["umount", "/run/sources/tmpfs/mnt"], check=True)

    def test_share_of_a_user(self):
        self.assert_refused("HandlesUnavailable", "user", User="tester",
                            InodeFileHandles="mandatory")
        self.lab.run(["install", "-d", "-o", "tester", "/srv/mine"], check=True)
        _, socket = self.added("user", source="/srv/mine", User="tester")
        pid = self.share("user", "MainPID")[0]
        status = self.lab.run(["cat", f"/proc/{pid}/status"]).out
        self.assertRegex(status, r"CapEff:\s+0+\n")
        with virtiofs.Guest(self.lab, socket) as guest:
            guest.create(path="own", data="x")
        self.assertEqual(self.lab.run(["stat", "-c", "%U", "/srv/mine/own"]).out.strip(), "tester")

    def test_descriptors_stay_flat_with_handles(self):
        nodes = virtiofs.make_tree(self.lab, "/run/sources/tmpfs/flat", 20, 100)
        _, socket = self.added("flat", LimitNOFILE=2048, InodeFileHandles="mandatory")
        with virtiofs.Guest(self.lab, socket) as guest:
            self.assertGreaterEqual(guest.walk(path="flat")["nodes"], nodes)
            self.wait_state("flat", "connected")
            time.sleep(0.5)
            used, level = self.share("flat", "Descriptors", "DescriptorLevel")
            self.assertLess(used, 64)
            self.assertEqual(level, "normal")

    def test_counts_truthfully(self):
        nodes = virtiofs.make_tree(self.lab, "/run/sources/tmpfs/count", 20, 50)
        _, socket = self.added("count", InodeFileHandles="never")
        with virtiofs.Guest(self.lab, socket) as guest:
            guest.walk(path="count")
            self.wait_state("count", "connected")
            wait_for(lambda: self.share("count", "Descriptors")[0] >= nodes - 32, 10, "the count")
            used, worker = self.share("count", "Descriptors", "WorkerPID")
            real = virtiofs.count_descriptors(self.lab, worker)
            self.assertLess(abs(real - used), 64)

    test_levels_before_exhaustion_and_back = Shares.test_levels_before_exhaustion_and_back

    def test_garbage_is_a_protocol_error(self):
        _, socket = self.added("garbage")
        with virtiofs.Guest(self.lab, socket) as guest:
            self.wait_state("garbage", "connected")
            try:
                guest.garbage()
            except virtiofs.GuestError:
                pass  # the daemon may be gone before it could answer
            self.wait_state("garbage", "failed")
        self.assertEqual(self.share("garbage", "ErrorName")[0], ERROR + "ProtocolError")


class NewerRustShares(ShareTestCase):
    """The newest daemon, whose defaults are others."""

    DIALECT = "rust-next"

    def test_starts_and_serves(self):
        _, socket = self.added("new", InodeFileHandles="mandatory")
        with virtiofs.Guest(self.lab, socket) as guest:
            self.assertEqual(guest.read(path="file")["data"], "hello\n")
        wait_for(lambda: self.share("new") is None, 10, "the end of the share")

    test_levels_before_exhaustion_and_back = Shares.test_levels_before_exhaustion_and_back


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
                  _CONFIG.format(program=virtiofs.daemon("c")))

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
