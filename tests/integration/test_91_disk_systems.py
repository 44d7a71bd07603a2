# SPDX-License-Identifier: MIT
"""A full disk of each kind of file system, recovered with the guardian running."""

import json
import os
import subprocess

import test_91_disk
from test_91_disk import _DATA, _MIB


class _FullDisk(test_91_disk.Disk):
    """The data disk is of another kind; `Disk` has it as ext4."""

    MKFS = ()
    MEBIBYTES = 400
    OPTIONS = "loop"

    @classmethod
    def make_disk(cls, name, mebibytes):
        if name != "data":
            return super().make_disk(name, mebibytes)
        image, point = (os.path.join(cls.folder, f"{name}{suffix}") for suffix in (".img", ""))
        os.mkdir(point)
        subprocess.run(["fallocate", "-l", f"{cls.MEBIBYTES}M", image], check=True)
        subprocess.run([*cls.MKFS, image], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-o", cls.OPTIONS, image, point], check=True)
        cls.addClassCleanup(subprocess.run, ["umount", "-l", point], check=False)
        return point

    def append(self, name, block, count=1):
        return self.lab.run(["dd", "if=/dev/urandom", f"of={_DATA}/{name}", f"bs={block}",
                             f"count={count}", "conv=notrunc,fsync", "oflag=append"])

    def free_blocks(self):
        """Also those of ext4's root pool."""
        stat = self.lab.run(["stat", "-f", "-c", "%f %S", _DATA], check=True).out.split()
        return int(stat[0]) * int(stat[1])

    def check_recovery(self):
        self.assertEqual(self.get(_DATA, "FileSystem"), self.MKFS[0].removeprefix("mkfs."))
        self.assertTrue(self.append("probe", "4K").ok)  # there before: a full one may make no files
        for block, count in (("4M", 1000), ("64K", 1000), ("4K", 2000), ("1", 5000)):
            self.append("filler", block, count)
        self.assertFalse(self.append("filler", "1").ok)
        self.assertFalse(self.append("probe", "64K").ok)
        self.wait_for_property(_DATA, "Level", "full")
        before = self.free_blocks()
        done = self.lab.run(["thawctl", "reserve", "release", _DATA, "--json=short"])
        self.assertTrue(done.ok, str(done))
        [told] = json.loads(done.out)
        self.assertEqual(told["by"], "guardian")
        self.assertTrue(told["writes"], str(done))
        self.assertAlmostEqual(told["gained"], self.free_blocks() - before, delta=_MIB)
        self.assertGreaterEqual(told["gained"], 31 * _MIB)
        self.assertTrue(self.append("probe", "64K").ok)
        self.assertEqual(self.get(_DATA, "State"), "released")
        self.lab.run(["rm", f"{_DATA}/filler", f"{_DATA}/probe"], check=True)
        self.lab.run(["sync", "-f", _DATA], check=True)  # btrfs frees at a commit
        self.wait_armed(_DATA)


class Xfs(_FullDisk):
    """xfs."""

    MKFS = ("mkfs.xfs", "-q")

    def test_recovery(self):
        self.check_recovery()


class BtrfsDup(_FullDisk):
    """btrfs with two copies of its metadata."""

    MKFS = ("mkfs.btrfs", "-q", "-m", "dup", "-d", "single")

    def test_recovery(self):
        self.check_recovery()


class BtrfsSingle(_FullDisk):
    """btrfs with one."""

    MKFS = ("mkfs.btrfs", "-q", "-m", "single", "-d", "single")
    # Its cleaner gives empty block groups back once in this time (30 s by default), and until then
    # statvfs() tells of no room.
    OPTIONS = "loop,commit=2"

    def test_recovery(self):
        self.check_recovery()


class Ext4(_FullDisk):
    """ext4 with a root pool, filled by root."""

    MKFS = ("mkfs.ext4", "-q")

    def test_recovery(self):
        self.check_recovery()
