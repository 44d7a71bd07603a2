# SPDX-License-Identifier: MIT
"""thawctl snapshot --diff: what a VM changed since it was restored becomes an image of its own,
while the VM runs on and pagers die; laid over its base it is the guest's memory at the pause."""

import json
import os
import time

from thawlab import journal, main_pid, wait_for
from thawlab.vms import STANDIN, VmTestCase

IMAGES = "/var/lib/thaw/images"
RESTORED = "thaw-restored.service"
BROKER = "thaw-pagerd.service"


class SnapshotDiff(VmTestCase):
    IMAGES = {"small": {"memory_mib": 64, "zero_percent": 20}}

    @classmethod
    def prepare(cls, lab):
        super().prepare(lab)
        lab.write("/etc/thaw/pagerd.conf.d/50-test.conf", "[Pager]\nWorkerRestartLimit=1000\n"
                  "StartLimitBurst=1000\n")

    def setUp(self):
        super().setUp()
        self._images = []

    def tearDown(self):
        super().tearDown()
        for image in reversed(self._images):
            self.lab.run(["thawctl", "image", "rm", image])

    # ---- steps -----------------------------------------------------------------------------------

    def kill(self, *pids):
        self.lab.run(["kill", "-KILL", *[str(p) for p in pids]])

    def tracked(self, name, image="small", **profile):
        self.profile(name, **{"guest": {"check": False}, **profile})
        done = self.restore(name, image, "--track", backend="auto")
        self.assertTrue(done.ok, str(done))
        self.assertEqual(self.session_property(name, "Tracking"), "armed")

    def run_guest(self, name, touches=3000, **parameters):
        self.start_guest(name, **{"pattern": "working-set", "working_set_percent": 20,
                                  "touches": touches, "write_percent": 30, "drop_every": 100,
                                  "check": False, **parameters})

    def wait_guest(self, name, touches=3000):
        wait_for(lambda: self.api(name, "GET", "/standin/report")[1]["guest"]["touches"] >= touches,
                 60, "the guest's writes")

    def difference(self, name, image, timeout=120):
        """thawctl snapshot --diff; the Result."""
        self._images.append(image)
        return self.lab.run(["thawctl", "snapshot", name, image, "--diff"], timeout=timeout)

    def pause(self, name):
        self.lab.run(["thawctl", "pause", name], check=True)

    def digest(self, name):
        status, answer = self.api(name, "PUT", "/standin/hash", {}, timeout=120)
        self.assertEqual(status, 200, answer)
        return answer["digest"]

    def assert_image_is(self, image, digest, name="copy"):
        """A VM restored from the image has the memory of that digest."""
        self.assertTrue(self.lab.run(["thawctl", "image", "verify", image]).ok)
        self.profile(name, guest={"check": False})
        done = self.restore(name, image)
        self.assertTrue(done.ok, str(done))
        self.assertEqual(self.digest(name), digest)
        self.lab.run(["thawctl", "stop", name], check=True)

    # ---- tests -----------------------------------------------------------------------------------

    def test_paused_vm_is_what_its_difference_says(self):
        self.tracked("vm")
        self.run_guest("vm")
        self.wait_guest("vm")
        self.pause("vm")
        # Not the digest first: that would load every page.
        done = self.difference("vm", "diff1")
        self.assertTrue(done.ok, str(done))
        faults = self.session_property("vm", "Faults")
        digest = self.digest("vm")
        self.assertGreater(self.session_property("vm", "Faults"), faults, "pages were missing still")
        shown = json.loads(self.lab.run(["thawctl", "image", "show", "diff1", "--json=short"],
                                        check=True).out)
        self.assertEqual([b["name"] for b in shown["bases"]], ["small"])
        self.assertGreater(shown["own_pages"], 0)
        self.assertLess(shown["own_pages"], 64 * 256 // 2, "most pages are the base's")
        self.assert_image_is("diff1", digest)

    def test_running_vm_goes_on_and_its_difference_is_of_the_pause(self):
        self.tracked("vm")
        self.run_guest("vm", touches=0, vcpus=2, rate_per_second=20000)
        time.sleep(0.5)
        done = self.difference("vm", "diff1")
        self.assertTrue(done.ok, str(done))
        self.assertIn("stood still", done.out + done.err)
        self.assertEqual(self.api("vm", "GET", "/")[1]["state"], "Running")
        self.assertFalse(self.session_property("vm", "Quiesced"))
        self.assertEqual(self.session_property("vm", "Tracking"), "armed")
        self.assertTrue(self.lab.run(["thawctl", "image", "verify", "diff1"]).ok)
        # A second one over the same base, later.
        self.pause("vm")
        done = self.difference("vm", "diff2")
        self.assertTrue(done.ok, str(done))
        self.assert_image_is("diff2", self.digest("vm"))

    def test_pagers_die_while_it_is_tracked(self):
        self.tracked("vm")
        self.run_guest("vm", touches=0, vcpus=2, rate_per_second=20000)
        for i in range(12):
            time.sleep(0.02 * (i % 4))
            worker, broker = self.session_property("vm", "WorkerPID"), main_pid(self.lab, BROKER)
            self.kill(*[[worker], [broker], [worker, broker]][i % 3])
            wait_for(lambda: self.session_property("vm", "WorkerPID"), 15, "a worker")
        self.pause("vm")
        done = self.difference("vm", "diff1")
        self.assertTrue(done.ok, str(done))
        self.assert_image_is("diff1", self.digest("vm"))

    def test_differences_make_a_chain(self):
        below = "small"
        for depth in (1, 2, 3):
            self.tracked("vm", below)
            self.run_guest("vm", seed=depth)
            self.wait_guest("vm")
            self.pause("vm")
            image = f"diff{depth}"
            done = self.difference("vm", image)
            self.assertTrue(done.ok, str(done))
            digest = self.digest("vm")
            self.lab.run(["thawctl", "stop", "vm"], check=True)
            self.assert_image_is(image, digest)
            below = image

    def test_a_difference_goes_through_one_file(self):
        self.tracked("vm")
        self.run_guest("vm")
        self.wait_guest("vm")
        self.pause("vm")
        done = self.difference("vm", "diff1")
        self.assertTrue(done.ok, str(done))
        digest = self.digest("vm")
        path = "/var/lib/thaw/diff1.delta"
        self.lab.run(["thawctl", "image", "export-delta", "diff1", path], check=True)
        self.assertEqual(self.lab.run(["thawctl", "image", "export-delta", "small", path, "--force"]).rc,
                         1, "no difference")
        self.lab.run(["thawctl", "image", "rm", "diff1", "--force"], check=True)
        self._images.append("diff2")
        self.lab.run(["thawctl", "image", "import-delta", "diff2", path], check=True)
        self.assert_image_is("diff2", digest)
        self.lab.run(["rm", path], check=True)

    def test_vmm_without_partial_snapshots_writes_all(self):
        self.tracked("vm", generation="1.12")
        self.run_guest("vm")
        self.wait_guest("vm")
        self.pause("vm")
        done = self.difference("vm", "diff1")
        self.assertTrue(done.ok, str(done))
        self.assert_image_is("diff1", self.digest("vm"))
        self.assertEqual(self.session_property("vm", "State"), "serving", "still tracked")

    def test_real_vcpu_under_kvm(self):
        self.tracked("vm")
        if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not self.lab.exists("/dev/kvm"):
            self.skipTest("no /dev/kvm")
        self.start_guest("vm", kvm="auto", write_percent=30, touches=0, check=False)
        time.sleep(1)
        report = self.api("vm", "GET", "/standin/report")[1]["guest"]["kvm"]
        if report.get("state") not in ("running", "active", "on"):
            self.skipTest(f"no KVM guest: {report}")
        self.pause("vm")
        done = self.difference("vm", "diff1")
        self.assertTrue(done.ok, str(done))
        self.assert_image_is("diff1", self.digest("vm"))

    def test_what_cannot_be_tracked_is_refused(self):
        self.profile("foreign", vm_config={"drives": [{"drive_id": "d", "socket": "/v.sock"}]})
        done = self.restore("foreign", "small", "--track")
        self.assertFalse(done.ok)
        self.assertIn("TrackingUnsupported", done.out + done.err)
        self.assertIn("vhost-user", done.out + done.err)
        self.assert_nothing_left("foreign")
        done = self.restore("mapped", "small", "--track", backend="file")
        self.assertFalse(done.ok)
        self.assertIn("BackendUnsupported", done.out + done.err)
        # And what was not tracked is no base of anything.
        self.assertTrue(self.restore("plain", "small").ok)
        done = self.difference("plain", "diff1")
        self.assertFalse(done.ok)
        self.assertIn("NotTracked", done.out + done.err)
        self.assertFalse(self.lab.exists(f"{IMAGES}/diff1"))

    def test_memory_that_was_replaced_is_not_vouched_for(self):
        # Firecracker before 1.11: the balloon maps fresh memory over the guest's, and says nothing.
        self.tracked("vm", generation="1.7")
        self.run_guest("vm", drop_every=20)
        self.wait_guest("vm")
        done = self.difference("vm", "diff1")
        self.assertFalse(done.ok)
        self.assertIn("TrackingFailed", done.out + done.err)
        self.assertEqual(self.session_property("vm", "Tracking"), "failed")
        self.assertEqual(self.api("vm", "GET", "/")[1]["state"], "Running")
        self.assertFalse(self.session_property("vm", "Quiesced"))
        self.assert_running("vm")
        self.assertFalse(self.lab.exists(f"{IMAGES}/diff1"))

    def test_failures_are_undone(self):
        self.tracked("vm", api_error={"PUT /snapshot/create": "no"})
        done = self.difference("vm", "diff1")
        self.assertFalse(done.ok)
        self.assertIn("SnapshotFailed", done.out + done.err)
        self.assertEqual(self.api("vm", "GET", "/")[1]["state"], "Running")
        self.assertFalse(self.session_property("vm", "Quiesced"))
        self.assertFalse(self.lab.exists(f"{IMAGES}/diff1"))
        # Another image by the name of the one that it came from.
        self.lab.run(["mv", f"{IMAGES}/small", f"{IMAGES}/aside"], check=True)
        self.addCleanup(self.lab.run, ["mv", f"{IMAGES}/aside", f"{IMAGES}/small"])
        self.make_image("small", memory_mib=64)
        self.addCleanup(self.lab.run, ["rm", "-rf", f"{IMAGES}/small"])
        done = self.difference("vm", "diff1")
        self.assertFalse(done.ok)
        self.assertIn("ImageMismatch", done.out + done.err)
        self.assert_running("vm")

    def test_restore_manager_dies_in_the_middle(self):
        self.tracked("vm")
        self.run_guest("vm", touches=0, rate_per_second=20000)
        for i in range(4):
            self._images.append(f"diff{i}")
            queued = self.lab.run(["thawctl", "snapshot", "vm", f"diff{i}", "--diff", "--no-block"])
            self.assertTrue(queued.ok, str(queued))
            time.sleep(0.02 * (i + 1))
            self.kill(main_pid(self.lab, RESTORED))
            wait_for(lambda: self.api("vm", "GET", "/")[1]["state"] == "Running", 15, "the VM")
            wait_for(lambda: not self.session_property("vm", "Quiesced"), 15, "the session")
            wait_for(lambda: self.lab.run(["thawctl", "jobs", "--json=short"]).out.strip() in
                     ("[]", '{"jobs":[]}', ""), 20, "the end of the job")
        self.pause("vm")
        done = self.difference("vm", "last")
        self.assertTrue(done.ok, str(done))
        self.assert_image_is("last", self.digest("vm"))
