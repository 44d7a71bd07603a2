# SPDX-License-Identifier: MIT
"""Root file systems as overlays: started for a restore, seen by the VMM alone, gone with the VM."""

import json
import os
import time
import unittest

from thawlab import busctl, journal, unit, unit_state, wait_for
from thawlab.vms import RESTORE, VmTestCase

BASE = "/var/lib/thaw/images/base.raw"
MIB = 1 << 20


class RootfsOverlays(VmTestCase):
    IMAGES = {"small": {"memory_mib": 16},
              "drive": {"memory_mib": 16, "drive": "root.img",
                        "import_options": ("--drive", "root=root.img")}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.run(["sh", "-c", f"head -c 8M /dev/urandom >{BASE} && "
                     f"chgrp thaw-vmm {BASE} && chmod 0640 {BASE}"], check=True)

    def restore_with(self, name, image="small", **settings):
        """RestoreInstance with a Rootfs; (result, error name, message)."""
        self._names.append(name)
        words = [str(len(settings))]
        for key, value in settings.items():
            kind = {bool: "b", int: "t", str: "s"}[type(value)]
            words += [key, kind, str(value).lower() if kind == "b" else str(value)]
        result, data = busctl(self.lab, "call", *RESTORE, "RestoreInstance", "ssa{sv}t", name,
                              image, "1", "Rootfs", "a{sv}", *words, "0")
        self.assertTrue(result.ok, str(result))
        return self.wait_job(data[1])

    def socket(self, name):
        return f"/run/thaw/rootfs/{name}/nbd.sock"

    def io(self, name, *commands):
        words = [word for command in commands for word in ("-c", command)]
        return self.lab.run(["qemu-io", "-f", "raw", *words,
                             f"nbd+unix:///?socket={self.socket(name)}"])

    def rootfs_of(self, name, user=None):
        """What Instance.GetRootfs() answers; the error's text where it fails."""
        result, data = busctl(self.lab, "call", "org.thaw.restore1",
                              f"/org/thaw/restore1/instance/{name}", "org.thaw.restore1.Instance",
                              "GetRootfs", user=user)
        return {key: value["data"] for key, value in data[0].items()} if result.ok else result.err

    def service(self, name):
        return f"thaw-rootfs@{name}.service"

    def assert_no_rootfs(self, name):
        for kind in (f"thaw-rootfs@{name}.service", f"thaw-rootfs@{name}.socket",
                     f"thaw-rootfs-control@{name}.socket"):
            wait_for(lambda kind=kind: unit_state(self.lab, kind) == "inactive", 10, kind)
        self.assertFalse(self.lab.exists(f"/run/thaw/rootfs/{name}"))
        for kind in ("service", "socket"):
            self.assertFalse(self.lab.exists(f"/run/systemd/system/thaw-rootfs@{name}.{kind}.d"))

    def test_an_overlay_lives_as_long_as_its_vm(self):
        before = self.lab.run(["sha256sum", BASE], check=True).out
        end = self.restore_with("disk", Base=BASE, MemoryMax=2 * MIB, DiskMax=64 * MIB)
        self.assertEqual(end[0], "done", end)
        shown = unit(self.lab, self.service("disk"), "ActiveState", "Slice", "User")
        self.assertEqual(shown["ActiveState"], "active")
        self.assertEqual(shown["Slice"], "thaw-disk.slice")
        self.assertEqual(shown["User"], "thaw-fs-disk")
        # Of two blocks, four MiB: a part has to go to the disk.
        wrote = self.io("disk", "write -P 0x41 0 4M", "flush", "read -P 0x41 0 4M")
        self.assertTrue(wrote.ok, str(wrote))
        self.assertEqual(self.lab.run(["sha256sum", BASE], check=True).out, before)
        # Anybody may ask restored, root alone the server itself.
        status = self.rootfs_of("disk", user="visitor")
        self.assertIsInstance(status, dict, status)
        self.assertEqual(status["Size"], 8 * MIB)
        self.assertEqual(status["DirtyBytes"], 4 * MIB)
        self.assertEqual((status["MemoryUsed"], status["MemoryMax"]), (2 * MIB, 2 * MIB))
        self.assertGreaterEqual(status["BytesSpilled"], 2 * MIB)
        self.assertIs(status["Durable"], False)
        shown = self.lab.run(["thawctl", "status", "disk"], user="visitor", check=True).out
        self.assertIn("4.0M changed, 2.0M of it in memory", shown)
        top = self.lab.run(["thawctl", "top", "-n", "1", "-i", "100ms"], check=True).out
        self.assertIn("Root disks: 1, 4.0M changed; 2.0M in memory", top)
        modes = self.lab.run(["stat", "-c", "%a %G", self.socket("disk"),
                              "/run/thaw/rootfs/disk/control"], check=True).out.split("\n")
        self.assertEqual(modes[:2], ["660 thaw-vmm", "600 root"])
        self.lab.run(["thawctl", "stop", "disk"], check=True)
        self.assert_no_rootfs("disk")
        self.assert_nothing_left("disk")

    def test_a_base_that_is_not_there_fails_the_restore_before_the_vmm(self):
        result, error, message = self.restore_with("bad", Base="/nowhere/base")
        self.assertEqual((result, error), ("failed", "org.thaw.restore1.Error.RootfsFailed"))
        self.assertIn("thaw-rootfs@bad.service", message)
        entries = journal(self.lab, "-t", "thaw-rootfs")
        self.assertTrue(any("/nowhere/base" in entry["MESSAGE"] for entry in entries), entries)
        self.assert_no_rootfs("bad")
        self.assert_nothing_left("bad")

    def test_a_paused_vm_is_exported(self):
        self.assertEqual(self.restore_with("still", Base=BASE)[0], "done")
        self.assertTrue(self.io("still", "write -P 0x11 64k 8k", "flush").ok)
        self.assertEqual(self.api("still", "PATCH", "/vm", {"state": "Paused"})[0], 204)
        done = self.lab.run(["thawctl", "rootfs", "export", "still", "/run/still", "--json=short"])
        self.assertTrue(done.ok, str(done))
        self.assertEqual(json.loads(done.out)["data_blocks"], 2)
        self.assertEqual(self.api("still", "PATCH", "/vm", {"state": "Resumed"})[0], 204)

    def test_a_silent_server_holds_up_nobody_who_asks_for_it(self):
        self.assertEqual(self.restore_with("mute", Base=BASE)[0], "done")
        self.lab.run(["systemctl", "kill", "-s", "STOP", self.service("mute")], check=True)
        begin = time.monotonic()
        self.assertIn("is silent", self.rootfs_of("mute"))
        self.assertLess(time.monotonic() - begin, 10)
        self.lab.run(["systemctl", "kill", "-s", "CONT", self.service("mute")], check=True)
        self.assertEqual(self.rootfs_of("mute")["DirtyBytes"], 0)

    def test_a_vm_without_one_says_so(self):
        self.restore("plain")
        self.assertIn("no root file system", self.rootfs_of("plain"))

    def test_a_vm_without_its_overlay_is_stopped(self):
        self.assertEqual(self.restore_with("lose", Base=BASE)[0], "done")
        self.lab.run(["systemctl", "kill", "-s", "KILL", self.service("lose")], check=True)
        wait_for(lambda: "lose" not in self.instances(), 20, "the end of the VM")
        self.assert_logged("lose", "its root file system is lost")
        self.assert_no_rootfs("lose")

    def test_a_durable_overlay_survives_its_server_and_its_vm(self):
        self.assertEqual(self.restore_with("keep", Base=BASE, Durable=True)[0], "done")
        self.assertTrue(self.io("keep", "write -P 0x42 1M 64k", "flush").ok)
        pid = unit(self.lab, self.service("keep"), "MainPID")["MainPID"]
        self.lab.run(["kill", "-KILL", pid], check=True)
        wait_for(lambda: unit(self.lab, self.service("keep"), "MainPID")["MainPID"] not in (pid, "0"),
                 10, "the server's second start")
        self.assertTrue(self.io("keep", "read -P 0x42 1M 64k").ok)
        self.assert_running("keep")
        self.lab.run(["thawctl", "stop", "keep"], check=True)
        self.assert_no_rootfs("keep")
        self.assertEqual(self.restore_with("keep", Base=BASE, Durable=True)[0], "done")
        self.assertTrue(self.io("keep", "read -P 0x42 1M 64k").ok)

    def test_a_durable_one_that_cannot_come_back_is_a_loss(self):
        self.assertEqual(self.restore_with("broken", Base=BASE, Durable=True)[0], "done")
        self.assertTrue(self.io("broken", "write -P 0x42 1M 64k", "flush").ok)
        self.lab.run(["sh", "-c", "echo damage | dd conv=notrunc bs=1 seek=20 "
                      "of=/var/lib/thaw/rootfs/broken/journal.0"], check=True)
        self.lab.run(["systemctl", "kill", "-s", "KILL", self.service("broken")], check=True)
        wait_for(lambda: "broken" not in self.instances(), 20, "the end of the VM")
        self.assert_no_rootfs("broken")
        entries = journal(self.lab, "-t", "thaw-rootfs")
        self.assertTrue(any("no header that is whole" in entry["MESSAGE"] for entry in entries))

    def test_the_manager_finds_the_overlay_again(self):
        self.assertEqual(self.restore_with("again", Base=BASE)[0], "done")
        self.lab.run(["systemctl", "restart", "thaw-restored.service"], check=True)
        self.assertTrue(self.io("again", "write 0 4k").ok)
        self.lab.run(["systemctl", "kill", "-s", "KILL", self.service("again")], check=True)
        wait_for(lambda: "again" not in self.instances(), 20, "the end of the VM")
        self.assert_no_rootfs("again")

    def test_the_command_line_asks_for_one(self):
        self._names.append("typed")
        self.lab.run(["thawctl", "restore", "typed", "small", "--rootfs", BASE, "--rootfs-size=16M",
                      "--rootfs-memory=4M", "--rootfs-disk=32M"], check=True)
        info = self.lab.run(["qemu-img", "info", "--output=json", "-f", "raw",
                             f"nbd+unix:///?socket={self.socket('typed')}"], check=True).out
        self.assertEqual(json.loads(info)["virtual-size"], 16 * MIB)
        refused = self.lab.run(["thawctl", "restore", "other", "small", "--rootfs-durable"])
        self.assertEqual(refused.rc, 2, str(refused))
        refused = self.lab.run(["thawctl", "restore", "other", "drive", "--rootfs-drive=root"])
        self.assertEqual(refused.rc, 2, str(refused))

    def test_an_export_is_what_the_vm_sees(self):
        self.assertEqual(self.restore_with("save", Base=BASE, MemoryMax=2 * MIB, DiskMax=64 * MIB)[0],
                         "done")
        self.assertTrue(self.io("save", "write -P 0x43 0 3M", "write -z 4M 1M", "flush").ok)
        listed = json.loads(self.lab.run(["thawctl", "rootfs", "list", "--json=short"], check=True).out)
        self.assertEqual([row["dirty_bytes"] for row in listed if row["name"] == "save"], [3 * MIB])
        shown = self.lab.run(["thawctl", "status", "save"], check=True).out
        self.assertIn("Root disk: 3.0M changed", shown)
        metrics = self.lab.run(["thawctl", "metrics"], check=True).out
        self.assertIn('thaw_rootfs_dirty_bytes{vm="save"} 3145728', metrics)
        # Inside the daemons' sandboxes, too, it can be seen where their threads sleep.
        for daemon in ("restored", "pagerd"):
            self.assertIn(f'thaw_dirty_throttle_known{{daemon="{daemon}"}} 1', metrics)
            self.assertIn(f'thaw_dirty_throttled_threads_total{{daemon="{daemon}"}} 0', metrics)
        folder = "/var/lib/thaw/exports"
        self.lab.run(["mkdir", "-p", folder], check=True)
        self.lab.run(["thawctl", "rootfs", "export", "save", f"{folder}/d"], check=True)
        # What comes later is not in it.
        self.assertTrue(self.io("save", "write -P 0x44 5M 1M").ok)
        self.lab.run(["thawctl", "rootfs", "import", f"{folder}/d", f"{folder}/disk", "--base", BASE],
                     check=True)
        uri = f"nbd+unix:///?socket={self.socket('save')}"
        compare = ["qemu-img", "compare", "-f", "raw", "-F", "raw", uri, f"{folder}/disk"]
        self.assertEqual(self.lab.run(compare).rc, 1)
        self.lab.run(["thawctl", "rootfs", "export", "save", f"{folder}/d", "--force"], check=True)
        self.lab.run(["thawctl", "rootfs", "import", f"{folder}/d", f"{folder}/disk", "--base", BASE,
                      "--force"], check=True)
        self.lab.run(compare, check=True)
        same = self.lab.run(["thawctl", "rootfs", "compare", f"{folder}/d", f"{folder}/disk",
                             "--base", BASE])
        self.assertEqual(same.rc, 0, str(same))
        other = self.lab.run(["thawctl", "rootfs", "import", f"{folder}/d", f"{folder}/no",
                              "--base", f"{folder}/disk"])
        self.assertEqual(other.rc, 1, str(other))
        self.assertIn("another base", other.err)
        self.lab.run(["rm", "-r", folder], check=True)

    @unittest.skipIf(os.path.exists("/sys/module/nbd"), "this kernel has nbd devices")
    def test_a_device_is_refused_where_the_kernel_has_none(self):
        result, error, message = self.restore_with("dev", "drive", Base=BASE, Drive="root")
        self.assertEqual((result, error), ("failed", "org.thaw.restore1.Error.NbdUnavailable"))
        self.assertIn("modprobe nbd", message)
        self.assert_no_rootfs("dev")
        self.assert_nothing_left("dev")
        found = self.lab.run(["thawctl", "doctor", "--no-pager"]).out
        self.assertIn("overlays.nbd: the kernel has no nbd devices", found)

    def test_a_device_for_a_drive_that_is_not_there_is_refused(self):
        result, error, message = self.restore_with("nodrive", "drive", Base=BASE, Drive="data")
        self.assertEqual((result, error), ("failed", "org.freedesktop.DBus.Error.InvalidArgs"))
        self.assertIn('no drive "data"', message)
        self.assert_nothing_left("nodrive")

    def test_bad_settings_are_refused(self):
        for key, kind, value in (("Colour", "s", "red"), ("Size", "t", "513"),
                                 ("Base", "s", "../../etc/shadow")):
            base = [] if key == "Base" else ["Base", "s", BASE]
            words = [str(1 + len(base) // 3), *base, key, kind, value]
            result, _ = busctl(self.lab, "call", *RESTORE, "RestoreInstance", "ssa{sv}t", "no",
                               "small", "1", "Rootfs", "a{sv}", *words, "0")
            self.assertFalse(result.ok, key)
            self.assertIn(key, result.err)
