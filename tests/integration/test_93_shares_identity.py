# SPDX-License-Identifier: MIT
"""Whose files a guest sees and makes, and the sandboxes of the daemon."""

import unittest

from thawlab import virtiofs
from thawlab.sharing import DATA, ShareTestCase, dialects_of
from thawlab.virtiofs import GuestError


class Translation(ShareTestCase):
    """Ids of the guest and of the host, by the Rust daemons alone."""

    def source(self):
        self.lab.run(["sh", "-c", f"rm -rf {DATA}/ids; install -d -m 777 {DATA}/ids && "
                      f"install -m 644 -o 2005 -g 3005 /dev/null {DATA}/ids/theirs && "
                      f"install -m 644 -o 0 -g 0 /dev/null {DATA}/ids/roots"], check=True)
        return f"{DATA}/ids"

    def owner(self, name):
        return self.lab.run(["stat", "-c", "%u:%g", f"{DATA}/ids/{name}"], check=True).out.strip()

    def seen(self, guest, name):
        found = guest.look(path=name)
        return f"{found['uid']}:{found['gid']}"

    def test_a_map_goes_both_ways(self):
        guest = self.guest(self.share("web", "ids", self.source(),
                                      "--translate-uid=map:1000:2000:10",
                                      "--translate-gid=map:1000:3000:10"))
        guest.user(uid=1002, gid=1003)
        guest.create(path="mine", data="x")
        self.assertEqual(self.owner("mine"), "2002:3003")
        self.assertEqual(self.seen(guest, "mine"), "1002:1003")
        self.assertEqual(self.seen(guest, "theirs"), "1005:1005")
        self.assertEqual(self.seen(guest, "roots"), "0:0")  # what no map names stays

    def test_all_of_a_guest_is_one_user_of_the_host(self):
        guest = self.guest(self.share("web", "ids", self.source(),
                                      "--translate-uid=squash-guest:0:2000:4294967295",
                                      "--translate-gid=squash-guest:0:3000:4294967295"))
        for uid in (0, 7, 65534):
            guest.user(uid=uid, gid=uid)
            guest.create(path=f"by{uid}", data="x")
            self.assertEqual(self.owner(f"by{uid}"), "2000:3000")

    def test_a_forbidden_id_makes_nothing(self):
        guest = self.guest(self.share("web", "ids", self.source(),
                                      "--translate-uid=forbid-guest:0:1"))
        with self.assertRaises(GuestError):  # EIO, in both dialects
            guest.create(path="by-root", data="x")
        self.assertFalse(self.lab.exists(f"{DATA}/ids/by-root"))

    def test_maps_that_contradict_each_other_start_nothing(self):
        self.refused("StartFailed", "web", "ids", self.source(),
                     "--translate-uid=map:1000:2000:10", "--translate-uid=map:1005:4000:10")


class TranslationNext(Translation):
    """The newest daemon."""

    DIALECT = "rust-next"


class TranslationC(ShareTestCase):
    """The C daemon has none."""

    DIALECT = "c"

    def test_it_is_refused(self):
        self.lab.run(["mkdir", "-p", f"{DATA}/ids"], check=True)
        self.refused("OptionUnsupported", "web", "ids", f"{DATA}/ids",
                     "--translate-uid=map:1000:2000:10")


@dialects_of
class Sandboxes(ShareTestCase):
    """Each way in which a daemon can lock itself in, with a guest that works."""

    MODES = ("namespace", "chroot", "none")

    def inside(self, pid):
        """What a process of a daemon sees as its root, and whether that is a namespace of its own."""
        listed = self.lab.run(["ls", f"/proc/{pid}/root/"]).out.split()
        nested = self.lab.run(["sh", "-c", f"grep NSpid /proc/{pid}/status"]).out.split()
        return sorted(listed), len(nested) - 1

    def test_each(self):
        self.lab.run(["sh", "-c", f"mkdir -p {DATA}/box && echo hi >{DATA}/box/file"], check=True)
        for mode in self.MODES:
            with self.subTest(mode=mode):
                if self.DIALECT == "c" and mode == "none":
                    self.refused("OptionUnsupported", "web", mode, f"{DATA}/box",
                                 "--sandbox=none")
                    continue
                guest = self.guest(self.share("web", mode, f"{DATA}/box", f"--sandbox={mode}"))
                self.assertEqual(guest.read(path="file")["data"], "hi\n")
                guest.create(path=f"by-{mode}", data="x")
                self.wait_property("web", mode, "State", "connected")
                share = self.properties("web", mode)
                self.assertEqual(share["Sandbox"], mode)
                root, depth = self.inside(share["WorkerPID"])
                # One pid more for each namespace below the lab's.
                self.assertEqual(depth, 2 if mode == "namespace" else 1)
                self.assertEqual("file" in root, mode != "none", root)
                self.assertEqual(share["WorkerPID"] != share["MainPID"], mode == "namespace")
                seccomp = self.lab.run(["grep", "Seccomp:", f"/proc/{share['WorkerPID']}/status"])
                self.assertEqual(seccomp.out.split()[1], "2")
                guest.close()

    def test_a_user_without_privilege(self):
        if self.DIALECT == "c":
            return  # refused: it has no sandbox that a user can have
        self.lab.run(["install", "-d", "-o", "visitor", f"{DATA}/users"], check=True)
        guest = self.guest(self.share("web", "users", f"{DATA}/users", "--user=visitor"))
        guest.create(path="own", data="x")
        self.assertEqual(self.lab.run(["stat", "-c", "%U", f"{DATA}/users/own"]).out, "visitor\n")
        pid = self.property("web", "users", "WorkerPID")
        status = self.lab.run(["cat", f"/proc/{pid}/status"]).out
        for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
            self.assertIn(line, status)


class MemoryOfADaemon(ShareTestCase):
    """Its resident memory against MemoryHigh=, as a walk makes it grow."""

    def test_levels(self):
        nodes = virtiofs.make_tree(self.lab, f"{DATA}/wide", 100, 99)
        guest = self.guest(self.share("web", "memory", f"{DATA}/wide", "--file-handles=mandatory"))
        guest.look(path="d0")
        self.wait_property("web", "memory", "State", "connected")
        idle = self.property("web", "memory", "MemoryRSS")
        guest.walk(open=True)
        # What the walk costs is known only now: the share that counts gets its bound from that.
        self.wait_property("web", "memory", "State", "connected")
        grown = max(self.property("web", "memory", "MemoryRSS") for _ in range(20))
        guest.close()
        self.assertGreater(grown - idle, nodes * 200)
        self.assert_nothing_left("web", "memory")
        high = (grown - (grown - idle) // 8) // 1024 * 1024
        guest = self.guest(self.share("web", "memory", f"{DATA}/wide", "--file-handles=mandatory",
                                      f"--memory-high={high}"))
        guest.look(path="d0")
        guest.walk(open=True)
        self.wait_property("web", "memory", "MemoryLevel", "critical")
        self.assertEqual(self.property("web", "memory", "DescriptorLevel"), "normal")
        levels = [e["THAW_LEVEL"] for e in self.entries("THAW_SHARE=web:memory",
                                                        "THAW_RESOURCE=memory")]
        self.assertEqual(levels[-1], "critical")
        self.assertLessEqual(set(levels), {"elevated", "high", "critical"})


if __name__ == "__main__":
    unittest.main()
