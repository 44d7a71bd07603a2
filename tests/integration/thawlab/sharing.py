# SPDX-License-Identifier: MIT
"""Base of the scenarios of the virtiofs supervisor: the real one, a real virtiofsd, and guests."""

import json
import re
import subprocess
import sys
import time
import unittest

from . import virtiofs
from .inside import busctl, escape, journal, unit, wait_for
from .testcase import LabTestCase

SHARES = ("org.thaw.shares1", "/org/thaw/shares1", "org.thaw.shares1.Manager")
SHARE = "org.thaw.shares1.Share"
# A tmpfs of every lab: gives file handles, which the overlay of its root does not.
DATA = "/run/data"
OVERLAY = "/srv/data"
UNKNOWN = 2**64 - 1


def dialects_of(base):
    """Decorator: puts one class per dialect into the module in place of the decorated one."""
    module = sys.modules[base.__module__]
    for dialect in virtiofs.DIALECTS:
        name = base.__name__ + dialect.title().replace("-", "")
        setattr(module, name, type(name, (base,), {"DIALECT": dialect, "__doc__": base.__doc__,
                                                   "__module__": base.__module__}))


class ShareTestCase(LabTestCase):
    """`self.share(...)` starts one; what is left of it is looked for at the end of each test."""

    DIALECT = "rust"
    # Lines of [Shares] beside where things are. This machine's hard limit is 20000.
    CONFIG = "LimitNOFILE=16384\n"

    @classmethod
    def setUpClass(cls):
        folder = virtiofs.fetch()
        if cls.DIALECT not in virtiofs.available(folder):
            raise unittest.SkipTest(f"the {cls.DIALECT} virtiofsd could not be had")
        cls.MOUNTS = (virtiofs.mount(folder), *cls.extra_mounts())
        super().setUpClass()
        cls.lab.run(["mkdir", "-p", DATA, OVERLAY], check=True)

    @classmethod
    def extra_mounts(cls):
        """Hook: more of the host."""
        return ()

    @classmethod
    def prepare(cls, lab):
        lab.write("/etc/thaw/sharesd.conf.d/50-lab.conf",
                  f"[Shares]\nAllowedSources={DATA} {OVERLAY}\n"
                  f"VirtiofsdPath={virtiofs.daemon(cls.DIALECT)}\n{cls.CONFIG}")

    def setUp(self):
        super().setUp()
        self._shares = []

    def tearDown(self):
        for name, tag in self._shares:
            self.lab.run(["thawctl", "share", "remove", name, tag, "--force"])
        for name, tag in self._shares:
            self.assert_nothing_left(name, tag)
        super().tearDown()

    # ---- shares ----------------------------------------------------------------------------------

    def add(self, name, tag, source, *options, timeout=60.0, user=None):
        """thawctl share add; the Result."""
        self._shares.append((name, tag))
        return self.lab.run(["thawctl", "share", "add", name, tag, source, "--json=short",
                             *options], timeout=timeout, user=user)

    def share(self, name, tag, source, *options):
        """A share that must start; its socket."""
        result = self.add(name, tag, source, *options)
        self.assertTrue(result.ok, str(result))
        return json.loads(result.out)["socket"]

    def remove(self, name, tag, *options):
        return self.lab.run(["thawctl", "share", "remove", name, tag, *options])

    def guest(self, socket):
        guest = virtiofs.Guest(self.lab, socket)
        self.addCleanup(guest.close)
        return guest

    def properties(self, name, tag):
        """All of a share's properties, or None when there is no such share."""
        for _ in range(5):
            result, data = busctl(self.lab, "call", *SHARES, "GetShare", "ss", name, tag)
            if "without replying" not in result.err:
                break  # else the supervisor was killed with the question in its hands
        if data is None:
            self.assertIn("has no share", result.err)  # busctl shows the text alone
            return None
        result, data = busctl(self.lab, "call", SHARES[0], data[0],
                              "org.freedesktop.DBus.Properties", "GetAll", "s", SHARE)
        return {key: value["data"] for key, value in data[0].items()} if data else None

    def property(self, name, tag, key):
        found = self.properties(name, tag)
        return None if found is None else found[key]

    def wait_property(self, name, tag, key, value, timeout=10.0):
        """Until the property is the value, or one of a tuple of them."""
        values = value if isinstance(value, tuple) else (value,)
        seen = []

        def right():
            now = self.property(name, tag, key)
            if not seen or seen[-1] != now:
                seen.append(now)
            return now in values
        try:
            wait_for(right, timeout, f"{key} of {name}:{tag}")
        except AssertionError as error:
            raise AssertionError(f"{error}: wanted {value}, saw {seen}") from None

    def listed(self):
        result, data = busctl(self.lab, "call", *SHARES, "ListShares")
        self.assertTrue(result.ok, str(result))
        return {(row[0], row[1]): row for row in data[0]}

    # ---- verdicts --------------------------------------------------------------------------------

    def units(self, name, tag):
        instance = escape(self.lab, f"{name}:{tag}")
        return (f"thaw-virtiofsd@{instance}.service", f"thaw-virtiofsd@{instance}.socket")

    def assert_nothing_left(self, name, tag):
        """No share, unit, setting, socket or record."""
        wait_for(lambda: self.properties(name, tag) is None, 10, f"the end of {name}:{tag}")
        for one in self.units(name, tag):
            state = unit(self.lab, one, "ActiveState")["ActiveState"]
            self.assertIn(state, ("inactive", "failed"), one)
            wait_for(lambda o=one: not self.lab.exists(f"/run/systemd/system/{o}.d"), 5,
                     f"the removal of the settings of {one}")
        for path in (f"/run/thaw/sharesd/{name}:{tag}.json",
                     f"/run/thaw/shares/{name}/{tag}.sock"):
            wait_for(lambda p=path: not self.lab.exists(p), 5, f"the removal of {path}")

    def assert_logged(self, text, *matches):
        """An entry with a MESSAGE_ID that holds `text`; the newest."""
        def found():
            entries = journal(self.lab, *matches)
            return [e for e in entries if text in str(e.get("MESSAGE")) and e.get("MESSAGE_ID")]
        return wait_for(found, 5, f"a journal entry with {text!r}")[-1]

    def entries(self, *matches):
        """Entries of the supervisor's journal."""
        return journal(self.lab, "-u", "thaw-sharesd.service", *matches)

    def refused(self, error, *arguments, **keywords):
        """A share that must not start: the error's name; nothing is left."""
        result = self.add(*arguments, **keywords)
        self.assertFalse(result.ok, str(result))
        self.assertIn(error + ":", result.err)
        self.assert_nothing_left(arguments[0], arguments[1])
        return result

    # ---- signals ---------------------------------------------------------------------------------

    def watch_signals(self):
        """Collects the supervisor's signals from now on; returns a callable that gives them."""
        process = self.lab.popen(["gdbus", "monitor", "--system", "--dest", SHARES[0]],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in process.stdout:  # it sees what comes after this line
            if "is owned by" in line:
                break

        def collected():
            """[(member, [arguments as texts])]."""
            time.sleep(0.2)
            # The process itself is nsenter, which does not pass signals on.
            self.lab.run(["pkill", "-f", "^gdbus monitor"])
            out, _ = process.communicate(timeout=10)
            found = re.findall(r"^\S+ org\.thaw\.shares1\.\w+\.(\w+) \((.*)\)$", out, re.MULTILINE)
            return [(member, [re.sub(r"^uint64 |^'|'$", "", word.strip())
                              for word in arguments.split(",")]) for member, arguments in found]
        return collected
