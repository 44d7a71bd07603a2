# SPDX-License-Identifier: MIT
"""thaw-sharesd with the Rust virtiofsd: file handles, shares of a user, the budget."""

import time

from thawlab import virtiofs, wait_for
from thawlab.shares import ERROR, LevelTests, ShareTestCase


class RustShares(LevelTests, ShareTestCase):
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


class NewerRustShares(LevelTests, ShareTestCase):
    """The newest daemon, whose defaults are others."""

    DIALECT = "rust-next"

    def test_starts_and_serves(self):
        _, socket = self.added("new", InodeFileHandles="mandatory")
        with virtiofs.Guest(self.lab, socket) as guest:
            self.assertEqual(guest.read(path="file")["data"], "hello\n")
        wait_for(lambda: self.share("new") is None, 10, "the end of the share")
