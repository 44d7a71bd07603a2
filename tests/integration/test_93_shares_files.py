# SPDX-License-Identifier: MIT
"""Files through a share of the supervisor, with each dialect of virtiofsd."""

import unittest

from thawlab import virtiofs
from thawlab.inside import unit
from thawlab.sharing import DATA, ShareTestCase, dialects_of
from thawlab.virtiofs import GuestError


@dialects_of
class Files(ShareTestCase):
    """Read, write, rename; read-only; what the share says about itself."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nodes = virtiofs.make_tree(cls.lab, f"{DATA}/files", 10, 20)

    def test_read_write_rename(self):
        guest = self.guest(self.share("web", "files", f"{DATA}/files"))
        self.wait_property("web", "files", "State", "connected")
        guest.create(path="d0/new", data="from the guest")
        guest.rename(**{"from": "d0/new", "to": "d1/moved"})
        guest.write(path="d1/moved", data="From")
        on_host = self.lab.run(["cat", f"{DATA}/files/d1/moved"], check=True).out
        self.assertEqual(on_host, "From the guest")
        self.lab.write(f"{DATA}/files/d2/host", "from the host")
        self.assertEqual(guest.read(path="d2/host")["data"], "from the host")
        guest.mkdir(path="d3/folder")
        guest.remove(path="d3/folder", directory=True)
        guest.remove(path="d1/moved")
        self.assertEqual(self.lab.run(["ls", f"{DATA}/files/d1"]).out.count("moved"), 0)

    def test_read_only_is_the_hosts_word(self):
        self.lab.write(f"{DATA}/files/d0/keep", "kept")
        guest = self.guest(self.share("web", "ro", f"{DATA}/files", "--read-only"))
        self.assertTrue(self.property("web", "ro", "ReadOnly"))
        self.assertEqual(guest.read(path="d0/keep")["data"], "kept")
        attempts = [
            ("create", {"path": "d0/new", "data": "x"}),
            ("write", {"path": "d0/keep", "data": "x"}),
            ("mkdir", {"path": "d0/folder"}),
            ("remove", {"path": "d0/keep"}),
            ("rename", {"from": "d0/keep", "to": "d0/other"}),
            ("change", {"path": "d0/keep", "size": 0}),
            ("change", {"path": "d0/keep", "mode": 0o777}),
        ]
        for operation, members in attempts:
            with self.subTest(operation=operation, **members):
                with self.assertRaises(GuestError) as refused:
                    guest.request(operation, **members)
                self.assertEqual(refused.exception.errno, "EROFS")
        self.assertEqual(self.lab.run(["cat", f"{DATA}/files/d0/keep"]).out, "kept")
        # Not only by the daemon's own word: what it sees is mounted read-only.
        pid = self.property("web", "ro", "MainPID")
        mounts = self.lab.run(["grep", " /run/thaw/share ", f"/proc/{pid}/mountinfo"]).out
        if mounts:  # gone once its own sandbox has turned into it
            self.assertIn(" ro", mounts)

    def test_what_it_says_about_itself(self):
        self.guest(self.share("web", "files", f"{DATA}/files"))
        self.wait_property("web", "files", "State", "connected")
        share = self.properties("web", "files")
        self.assertEqual(share["Dialect"], self.DIALECT)
        self.assertEqual(share["Source"], f"{DATA}/files")
        self.assertEqual(share["EffectiveLimit"], 16384)
        self.assertFalse(share["Degraded"])
        self.assertEqual(share["InodeFileHandles"], "never" if self.DIALECT == "c" else "prefer")
        service, _ = self.units("web", "files")
        state = unit(self.lab, service, "ActiveState", "MainPID", "Slice", "LimitNOFILE")
        self.assertEqual(state, {"ActiveState": "active", "MainPID": str(share["MainPID"]),
                                 "Slice": "thaw-web.slice", "LimitNOFILE": "16384"})
        limits = self.lab.run(["cat", f"/proc/{share['WorkerPID']}/limits"]).out
        self.assertRegex(limits, r"Max open files +16384 ")
        self.assertIn(("web", "files"), self.listed())

    def test_the_peers_end_is_the_shares_end(self):
        for how in ("close", "kill"):
            with self.subTest(how=how):
                guest = self.guest(self.share("web", "gone", f"{DATA}/files"))
                guest.look(path="d0")
                getattr(guest, how)()
                self.assert_nothing_left("web", "gone")

    def test_what_is_no_message(self):
        guest = self.guest(self.share("web", "junk", f"{DATA}/files"))
        guest.look(path="d0")
        self.wait_property("web", "junk", "State", "connected")
        guest.garbage()
        self.wait_property("web", "junk", "State", "failed")
        share = self.properties("web", "junk")
        self.assertEqual((share["Result"], share["ErrorName"]),
                         ("protocol-error", "org.thaw.shares1.Error.ProtocolError"))

    def test_in_use_is_not_removed_unless_forced(self):
        guest = self.guest(self.share("web", "used", f"{DATA}/files"))
        self.wait_property("web", "used", "State", "connected")
        refused = self.remove("web", "used")
        self.assertIn("InUse:", refused.err)
        self.assertEqual(guest.read(path="d0/f0")["data"], "hi\n")
        self.assertTrue(self.remove("web", "used", "--force").ok)
        self.assert_nothing_left("web", "used")
        with self.assertRaises(GuestError) as gone:
            guest.look(path="d0")
        self.assertTrue(gone.exception.gone)

    def test_open_is_for_anybody(self):
        self._shares.append(("extern", "tree"))
        opened = self.lab.run(["thawctl", "share", "open", f"{DATA}/files", "tree"])
        self.assertTrue(opened.ok, str(opened))
        guest = self.guest(opened.out.strip())
        self.assertEqual(guest.walk()["errors"], {})


if __name__ == "__main__":
    unittest.main()
