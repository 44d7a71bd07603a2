# SPDX-License-Identifier: MIT
"""A real kernel mounts shares of the supervisor: user-mode Linux, with both Rust daemons."""

import unittest

from thawlab import uml, virtiofs
from thawlab.sharing import DATA, ShareTestCase


class GuestTestCase(ShareTestCase):
    """One boot per test. The kernel's virtio ids cannot talk to the C daemon: it has no tag."""

    @classmethod
    def setUpClass(cls):
        cls.guest_folder = uml.fetch()
        super().setUpClass()
        cls.nodes = virtiofs.make_tree(cls.lab, f"{DATA}/tree", 20, 50)
        cls.lab.run(["mkdir", "-p", f"{DATA}/rw", f"{DATA}/ro"], check=True)
        cls.lab.write(f"{DATA}/ro/keep", "kept\n")

    @classmethod
    def extra_mounts(cls):
        return (uml.mount(cls.guest_folder),)


class RealKernel(GuestTestCase):
    """Rust 1.13."""

    DIALECT = "rust"

    def test_files_and_read_only(self):
        sockets = {"rw": self.share("real", "rw", f"{DATA}/rw", "--offer-tag"),
                   "ro": self.share("real", "ro", f"{DATA}/ro", "--offer-tag", "--read-only")}
        status, out = uml.run_guest(self.lab, sockets, (
            "cd /mnt/rw && echo hello >a && mv a b && mkdir d && mv b d/c && cat d/c\n"
            "dd if=/dev/zero of=big bs=64k count=64 2>/dev/null; stat -c %s big\n"
            "cat /mnt/ro/keep\n"
            "touch /mnt/ro/new; rm /mnt/ro/keep; mv /mnt/ro/keep /mnt/ro/x; >/mnt/ro/keep\n"
            "mount -o remount,rw /mnt/ro; touch /mnt/ro/new\n"))
        self.assertNotEqual(status, 0, out)
        self.assertIn("hello\n4194304\nkept\n", out)
        self.assertEqual(out.count("Read-only file system"), 5, out)
        self.assertEqual(self.lab.run(["cat", f"{DATA}/rw/d/c"]).out, "hello\n")
        self.assertEqual(self.lab.run(["ls", f"{DATA}/ro"]).out, "keep\n")
        for tag in sockets:
            self.assert_nothing_left("real", tag)

    def test_the_guests_caches_hold_descriptors_until_they_are_dropped(self):
        socket = self.share("real", "tree", f"{DATA}/tree", "--offer-tag", "--file-handles=never",
                            "--limit=1400")
        status, out = uml.run_guest(self.lab, {"tree": socket}, (
            "find /mnt/tree -type f | xargs stat -c %n 2>&1 >/dev/null | sort | uniq -c | head -3\n"
            "ls /mnt/tree | wc -l; sleep 1\n"
            "echo 2 >/proc/sys/vm/drop_caches; sleep 1; cat /mnt/tree/d19/f49\n"))
        self.assertEqual(status, 0, out)
        # The wall was met, and the guest gives everything back when it is asked to.
        self.assertIn("Too many open files in system", out)
        self.assertTrue(out.endswith("20\nhi\n"), out)
        self.assert_nothing_left("real", "tree")
        levels = [e["THAW_LEVEL"] for e in self.entries("THAW_SHARE=real:tree",
                                                        "THAW_RESOURCE=descriptors")]
        self.assertEqual(levels[:3], ["elevated", "high", "critical"], levels)
        self.assertIn("normal", levels)

    def test_with_file_handles_it_stays_flat(self):
        socket = self.share("real", "flat", f"{DATA}/tree", "--offer-tag",
                            "--file-handles=mandatory", "--limit=800")
        status, out = uml.run_guest(self.lab, {"flat": socket}, (
            "find /mnt/flat -type f | xargs cat | wc -l; find /mnt/flat | wc -l; sleep 1\n"))
        self.assertEqual((status, out.split()), (0, ["1000", str(self.nodes + 1)]))
        self.assert_nothing_left("real", "flat")
        levels = self.entries("THAW_SHARE=real:flat", "THAW_LEVEL=elevated")
        self.assertEqual(levels, [])


class RealKernelNewest(GuestTestCase):
    """The newest daemon."""

    DIALECT = "rust-next"

    test_files_and_read_only = RealKernel.test_files_and_read_only


if __name__ == "__main__":
    unittest.main()
