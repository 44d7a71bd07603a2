# SPDX-License-Identifier: MIT
"""The main job: a snapshot comes back, byte for byte, whatever the page size, names or generation."""

from thawlab import hugepages, unit, wait_for
from thawlab.vms import VmTestCase

GENERATIONS = ("1.1", "1.5", "1.7", "1.11", "1.12", "main")


class Restore(VmTestCase):
    """Well-behaved VMMs."""

    IMAGES = {
        "small": {"memory_mib": 32},
        "devices": {"memory_mib": 16, "drive": "rootfs.img", "vsock": "v.sock"},
    }

    def test_lazily_by_userfaultfd(self):
        done = self.restore("web")
        self.assertTrue(done.ok, str(done))
        self.assert_running("web")
        self.assertEqual(self.session_property("web", "State"), "serving")
        installed = self.session_property("web", "PagesInstalled")
        self.assertLess(installed, 32 * 256, "a lazy restore reads only what was touched")
        self.start_guest("web", pattern="random", touches=5000, write_percent=30, drop_every=200)
        self.assert_memory_right("web")
        self.assertTrue(self.lab.run(["thawctl", "stop", "web"]).ok)
        self.assert_nothing_left("web")
        self.assertEqual(self.workers(), [])

    def test_by_file(self):
        done = self.restore("filed", backend="file")
        self.assertTrue(done.ok, str(done))
        self.assertNotIn("filed", self.sessions())
        self.assert_memory_right("filed")

    def test_auto_says_what_it_chose(self):
        _, path = self.start_job("auto", backend="auto")
        self.assertEqual(self.wait_job(path)[0], "done")
        self.assertIn(self.job_property(path, "Backend"), ("uffd", "file"))
        self.assertTrue(self.job_property(path, "BackendReason"))

    def test_names_that_look_nested(self):
        for name in ("a", "a-b"):
            done = self.restore(name)
            self.assertTrue(done.ok, str(done))
        slices = {n: unit(self.lab, self.unit(n), "Slice")["Slice"] for n in ("a", "a-b")}
        self.assertEqual(slices, {"a": "thaw-a.slice", "a-b": r"thaw-a\x2db.slice"})
        self.assertTrue(self.lab.run(["thawctl", "stop", "a"]).ok)
        self.assert_running("a-b")
        self.assert_memory_right("a-b")

    def test_two_of_one_image_with_devices(self):
        for name in ("one", "two"):
            self.lab.run(["install", "-d", "-m", "755",
                          f"/run/systemd/system/{self.unit(name)}.d"], check=True)
            # The drive of each VM is a file of its own, put there before the VMM starts.
            self.lab.write(f"/run/systemd/system/{self.unit(name)}.d/20-drive.conf",
                           "[Service]\nExecStartPre=/bin/sh -c 'echo %I >rootfs.img'\n")
            self.addCleanup(self.lab.run,
                            ["rm", "-rf", f"/run/systemd/system/{self.unit(name)}.d"])
            done = self.restore(name, "devices")
            self.assertTrue(done.ok, str(done))
        for name in ("one", "two"):
            self.assertTrue(self.lab.exists(f"/run/thaw/vm/{name}/v.sock"))
            self.assert_memory_right(name)
        uids = {unit(self.lab, self.unit(n), "User")["User"] for n in ("one", "two")}
        self.assertEqual(len(uids), 2, "each VMM runs as a user of its own")

    def test_repeated_request_returns_the_live_vm(self):
        self.assertTrue(self.restore("again").ok)
        pid = unit(self.lab, self.unit("again"), "MainPID")
        self.start_guest("again", pattern="sequential", touches=100, write_percent=100)
        self.assertTrue(self.restore("again").ok)
        self.assertEqual(unit(self.lab, self.unit("again"), "MainPID"), pid, "never rolled back")
        self.assert_memory_right("again")
        other = self.restore("again", "devices")
        self.assertFalse(other.ok)
        self.assertIn("InstanceExists", other.err)

    def test_every_generation_of_the_handshake(self):
        for generation in GENERATIONS:
            with self.subTest(generation=generation):
                name = "gen-" + generation.replace(".", "-")
                self.profile(name, generation=generation)
                done = self.restore(name)
                self.assertTrue(done.ok, str(done))
                self.start_guest(name, pattern="random", touches=2000)
                self.assert_memory_right(name)
                self.assertTrue(self.lab.run(["thawctl", "stop", name]).ok)
                self.assert_nothing_left(name)

    def test_odd_but_valid_handshakes(self):
        for name, keys in (("split", {"split_body": {"pieces": 9, "delay_ms": 20}}),
                           ("three", {"descriptors": 3})):
            with self.subTest(name):
                self.profile(name, **keys)
                done = self.restore(name)
                self.assertTrue(done.ok, str(done))
                self.assert_memory_right(name)

    def test_admin_stops_the_unit(self):
        self.assertTrue(self.restore("manual").ok)
        self.lab.run(["systemctl", "stop", self.unit("manual")], check=True)
        self.assert_nothing_left("manual")

    def test_empty_vmm_cannot_be_started(self):
        self.lab.run(["systemctl", "start", self.unit("empty")])
        self.assertNotEqual(unit(self.lab, self.unit("empty"), "ActiveState")["ActiveState"],
                            "active")


class HugePages(VmTestCase):
    """2 MiB pages; the machine's pool is raised under a lock and put back."""

    IMAGES = {"huge": {"memory_mib": 32, "page_size": 2 << 20}}

    def test_restored_whole(self):
        with hugepages(20) as there:
            if not there:
                self.skipTest("the kernel gave no 2 MiB pages")
            done = self.restore("big", "huge")
            self.assertTrue(done.ok, str(done))
            self.assertEqual(self.session_property("big", "PageSize"), 2 << 20)
            self.start_guest("big", pattern="random", touches=500, write_percent=30, drop_every=50)
            self.assert_memory_right("big")
            self.assertTrue(self.lab.run(["thawctl", "stop", "big"]).ok)
            self.assert_nothing_left("big")
            wait_for(lambda: not self.workers(), 5, "the end of the worker")

    def test_file_backend_refuses_huge_pages(self):
        refused = self.restore("big-file", "huge", backend="file")
        self.assertFalse(refused.ok)
        self.assertIn("BackendUnsupported", refused.err)
