# SPDX-License-Identifier: MIT
"""The bus: what is exported equals dbus/interfaces; every call once with busctl and once with gdbus."""

import os
import xml.etree.ElementTree as ElementTree

from thawlab import SOURCE_ROOT, busctl
from thawlab.vms import GUARD, PAGER, RESTORE, VmTestCase

SHARES = ("org.thaw.shares1", "/org/thaw/shares1", "org.thaw.shares1.Manager")
# Enough of a virtiofsd to have a share on the bus.
_VIRTIOFSD = """#!/bin/sh
[ "$*" != --print-capabilities ] || exec echo '{"type": "fs"}'
echo Waiting for vhost-user socket connection >&2
exec sleep 1000
"""
_INTERFACES = os.path.join(SOURCE_ROOT, "dbus", "interfaces")


def shape(interface):
    """What matters of an interface's XML: members, types, names of arguments, access."""
    members = set()
    for member in interface:
        if member.tag == "annotation":
            continue
        arguments = tuple((a.get("type"), a.get("name"),
                           a.get("direction", "in" if member.tag == "method" else "out"))
                          for a in member.findall("arg"))
        notes = frozenset((n.get("name"), n.get("value")) for n in member.findall("annotation"))
        members.add((member.tag, member.get("name"), member.get("type"), member.get("access"),
                     arguments, notes))
    return members


class OnTheBus(VmTestCase):
    """A VM runs throughout, so that every kind of object is there."""

    @classmethod
    def prepare(cls, lab):
        super().prepare(lab)
        lab.write("/opt/thaw-tests/virtiofsd", _VIRTIOFSD, mode=0o755)
        lab.write("/etc/thaw/sharesd.conf.d/test.conf",
                  "[Shares]\nAllowedSources=/srv\nLimitNOFILE=1024\n"
                  "VirtiofsdPath=/opt/thaw-tests/virtiofsd\n")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.run(["thawctl", "restore", "here", "small", "--memory-backend", "uffd"],
                    check=True)
        cls.lab.run(["busctl", "call", *SHARES, "AddShare", "sssa{sv}t", "here", "tag", "/srv", "0",
                     "0"], check=True)

    def gdbus(self, target, method, *arguments):
        service, path, interface = target
        return self.lab.run(["gdbus", "call", "--system", "--dest", service, "--object-path", path,
                             "--method", f"{interface}.{method}", *arguments])

    def both(self, target, method, signature="", *arguments, typed=()):
        result, data = busctl(self.lab, "call", *target, method,
                              *((signature, *arguments) if signature else ()))
        self.assertTrue(result.ok, str(result))
        other = self.gdbus(target, method, *typed)
        self.assertTrue(other.ok, str(other))
        return data

    def introspect(self, service, path):
        text = self.gdbus((service, path, "org.freedesktop.DBus.Introspectable"), "Introspect").out
        text = text.strip()[2:-3].replace("\\n", "\n").replace("\\'", "'")
        root = ElementTree.fromstring(text)
        return {i.get("name"): shape(i) for i in root.findall("interface")}

    def test_exported_equals_the_files(self):
        job = self.start_job("introspected")[1]
        self.wait_job(job)
        seen = {}
        for service, path in (
                (RESTORE[0], RESTORE[1]), (RESTORE[0], job),
                (RESTORE[0], busctl(self.lab, "call", *RESTORE, "GetInstance", "s", "here")[1][0]),
                (GUARD[0], GUARD[1]),
                (GUARD[0], busctl(self.lab, "call", *GUARD, "GetVolume", "s",
                                  "/var/lib/thaw/images")[1][0]),
                (PAGER[0], PAGER[1]),
                (PAGER[0], busctl(self.lab, "call", *PAGER, "GetSession", "s", "here")[1][0]),
                (SHARES[0], SHARES[1]),
                (SHARES[0], busctl(self.lab, "call", *SHARES, "GetShare", "ss", "here", "tag")[1][0]
                 )):
            seen.update({k: v for k, v in self.introspect(service, path).items()
                         if k.startswith("org.thaw.")})
        files = {}
        for name in os.listdir(_INTERFACES):
            if name.endswith(".xml"):
                for interface in ElementTree.parse(os.path.join(_INTERFACES, name)).getroot() \
                        .iter("interface"):
                    files[interface.get("name")] = shape(interface)
        self.assertEqual(sorted(seen), sorted(files))
        for name in seen:
            self.assertEqual(seen[name], files[name], name)

    def test_reading_calls(self):
        self.both(RESTORE, "ListInstances")
        self.both(RESTORE, "ListJobs")
        self.both(RESTORE, "GetInstance", "s", "here", typed=("here",))
        self.both(GUARD, "ListVolumes")
        self.both(GUARD, "ListLeases")
        self.both(GUARD, "GetVolume", "s", "/var/lib/thaw/images", typed=("/var/lib/thaw/images",))
        self.both(GUARD, "CanFit", "st", "/var/lib/thaw/images", "1",
                  typed=("/var/lib/thaw/images", "uint64 1"))
        self.both(PAGER, "ListSessions")
        self.both(PAGER, "GetSession", "s", "here", typed=("here",))
        self.both(SHARES, "ListShares")
        self.both(SHARES, "GetShare", "ss", "here", "tag", typed=("here", "tag"))

    def test_changing_calls(self):
        self._names += ["by-gdbus", "by-busctl"]
        done = self.gdbus(RESTORE, "RestoreInstance", "by-gdbus", "small",
                          "{'MemoryBackend': <'uffd'>}", "uint64 0")
        self.assertTrue(done.ok, str(done))
        _, path = self.start_job("by-busctl")
        self.assertEqual(self.wait_job(path)[0], "done")
        self.both(RESTORE, "SetPolicy", "sv", "Prefetch", "b", "true", typed=("Prefetch", "<true>"))
        result, _ = busctl(self.lab, "call", *RESTORE, "StopInstance", "st", "by-busctl", "0")
        self.assertTrue(result.ok, str(result))
        stopped = self.gdbus(RESTORE, "StopInstance", "by-gdbus", "uint64 0")
        self.assertTrue(stopped.ok, str(stopped))
        for name in ("by-busctl", "by-gdbus"):
            self.assert_nothing_left(name)

    def test_unknown_things_have_names(self):
        for target, method, arguments, word in (
                (RESTORE, "GetInstance", ("s", "absent"), "NoSuchInstance"),
                (RESTORE, "StopInstance", ("st", "absent", "0"), "NoSuchInstance"),
                (RESTORE, "CancelJob", ("u", "99999"), "NoSuchJob"),
                (RESTORE, "GetJob", ("u", "99999"), "NoSuchJob"),
                (GUARD, "GetVolume", ("s", "absent"), "NoSuchVolume"),
                (GUARD, "Release", ("stt", "/proc", "0", "0"), "NoSuchVolume"),
                (PAGER, "GetSession", ("s", "absent"), "NoSuchSession"),
                (PAGER, "CloseSession", ("st", "absent", "0"), "NoSuchSession")):
            with self.subTest(method=method):
                service, path, interface = target
                answer = self.lab.run(["gdbus", "call", "--system", "--dest", service,
                                       "--object-path", path, "--method", f"{interface}.{method}",
                                       *(f"uint32 {a}" if arguments[0] == "u" else
                                         (f"uint64 {a}" if a == "0" else a)
                                         for a in arguments[1:])])
                self.assertIn(word, answer.err)

    def test_unknown_options_and_flags(self):
        for arguments in (("1", "Nonsense", "b", "true", "0"), ("0", "4096")):
            result, _ = busctl(self.lab, "call", *RESTORE, "RestoreInstance", "ssa{sv}t", "never",
                               "small", *arguments)
            self.assertFalse(result.ok)
        refused, _ = busctl(self.lab, "call", *RESTORE, "RestoreInstance", "ssa{sv}t", "shared",
                            "small", "1", "Shares", "a(ssa{sv})", "1", "tag", "/srv", "0", "0")
        if refused.ok:  # answered with a job: the job must fail by name
            self.fail("shares need a VMM with virtio-fs")

    def test_log_control(self):
        for unit in ("thaw-restored.service", "thaw-pagerd.service", "thaw-diskguardd.service",
                     "thaw-sharesd.service"):
            self.lab.run(["systemctl", "service-log-level", unit, "debug"], check=True)
            self.assertEqual(self.lab.run(["systemctl", "service-log-level", unit]).out.strip(),
                             "debug")
            self.lab.run(["systemctl", "service-log-level", unit, "info"], check=True)
