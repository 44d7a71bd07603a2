# SPDX-License-Identifier: MIT
"""Base of the scenarios of thaw-sharesd: shares of one dialect of virtiofsd, and what they leave."""

import re
import unittest

from . import virtiofs
from .inside import busctl, escape, journal, main_pid, unit_state, wait_for
from .testcase import LabTestCase

SHARES = ("org.thaw.shares1", "/org/thaw/shares1", "org.thaw.shares1.Manager")
SHARE = "org.thaw.shares1.Share"
ERROR = "org.thaw.shares1.Error."
SUPERVISOR = "thaw-sharesd.service"
# The test machines give no more than 20000 descriptors.
CONFIG = """[Shares]
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
        cls.lab.run(["systemctl", "restart", SUPERVISOR], check=True)

    @classmethod
    def prepare(cls, lab):
        lab.write("/etc/thaw/sharesd.conf.d/test.conf",
                  CONFIG.format(program=virtiofs.daemon(cls.DIALECT)))

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
        entries = [e for e in journal(self.lab, f"THAW_INSTANCE={name}", "-u", SUPERVISOR)
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
        before = main_pid(self.lab, SUPERVISOR)
        self.lab.run(["systemctl", "kill", "-s", "KILL", SUPERVISOR], check=True)
        wait_for(lambda: main_pid(self.lab, SUPERVISOR) not in (0, before)
                 and unit_state(self.lab, SUPERVISOR) == "active", what="the new supervisor")


class LevelTests:
    """For each dialect: the levels of its descriptors."""

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
