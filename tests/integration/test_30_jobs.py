# SPDX-License-Identifier: MIT
"""Jobs: cancel at every stage, two of one name, many at once, circuit breakers."""

from thawlab import busctl, wait_for
from thawlab.stages import STAGES, held_at
from thawlab.vms import RESTORE, VmTestCase


class Jobs(VmTestCase):
    """Several jobs, and their ends."""

    def cancel(self, job_id):
        return busctl(self.lab, "call", *RESTORE, "CancelJob", "u", str(job_id))[0]

    def test_cancel_at_every_stage(self):
        for stage in STAGES:
            with self.subTest(stage):
                name = f"cancel-{stage}"
                with held_at(self, name, stage) as (job_id, path):
                    self.assertTrue(self.cancel(job_id).ok)
                result, error, _ = self.wait_job(path)
                self.assertEqual((result, error),
                                 ("canceled", "org.thaw.restore1.Error.Canceled"))
                self.assert_nothing_left(name)

    def test_cancel_at_any_moment(self):
        for delay in range(0, 60, 6):
            name = f"moment-{delay}"
            job_id, path = self.start_job(name)
            self.lab.run(["sleep", f"0.{delay:03}"])
            self.cancel(job_id)  # may come too late
            result, _, _ = self.wait_job(path)
            self.assertIn(result, ("done", "canceled"))
            if result == "done":
                self.assert_running(name)
                self.assertTrue(self.lab.run(["thawctl", "stop", name]).ok)
            self.assert_nothing_left(name)

    def test_interrupted_thawctl_cancels(self):
        self.profile("ctrl-c", slow_load_ms=5000)
        self._names.append("ctrl-c")
        result = self.lab.run(["timeout", "--preserve-status", "-s", "INT", "0.7", "thawctl",
                               "restore", "ctrl-c", "small", "--memory-backend", "uffd"])
        self.assertEqual(result.rc, 7, str(result))  # canceled
        self.assert_nothing_left("ctrl-c")

    def test_two_restores_of_one_name(self):
        self.profile("twin", slow_load_ms=800)
        _, first = self.start_job("twin")
        result, _ = busctl(self.lab, "call", *RESTORE, "RestoreInstance", "ssa{sv}t", "twin",
                           "small", "0", "0")
        self.assertFalse(result.ok)
        self.assertRegex(result.err, "twin.* is restoring")
        self.assertEqual(self.wait_job(first)[0], "done")
        self.assert_memory_right("twin")

    def test_twenty_at_once(self):
        jobs = {}
        for i in range(20):
            name = f"many-{i}"
            jobs[name] = self.start_job(name)[1]
        for name, path in jobs.items():
            self.assertEqual(self.wait_job(path)[0], "done", name)
        for name in jobs:
            self.start_guest(name, pattern="random", touches=300, drop_every=50)
        for name in jobs:
            self.assert_memory_right(name)
        stops = [busctl(self.lab, "call", *RESTORE, "StopInstance", "st", n, "0") for n in jobs]
        self.assertTrue(all(result.ok for result, _ in stops))
        for name in jobs:
            self.assert_nothing_left(name)
        wait_for(lambda: not self.workers(), 5, "the end of the workers")

    def test_circuit_breakers_at_run_time(self):
        def set_policy(key, kind, value):
            result, _ = busctl(self.lab, "call", *RESTORE, "SetPolicy", "sv", key, kind, value)
            self.assertTrue(result.ok, str(result))
        set_policy("MemoryBackend", "s", "file")
        try:
            _, path = self.start_job("broken-circuit", backend="auto")
            self.assertEqual(self.wait_job(path)[0], "done")
            self.assertEqual(self.job_property(path, "Backend"), "file")
        finally:
            set_policy("MemoryBackend", "s", "auto")
        refused, _ = busctl(self.lab, "call", *RESTORE, "SetPolicy", "sv", "Nonsense", "b", "true")
        self.assertIn("Nonsense", refused.err)

    def test_pause_and_resume(self):
        self.assertTrue(self.restore("pausing").ok)
        self.assertTrue(self.lab.run(["thawctl", "pause", "pausing"]).ok)
        self.assertEqual(self.api("pausing", "GET", "/")[1]["state"], "Paused")
        self.assertTrue(self.lab.run(["thawctl", "resume", "pausing"]).ok)
        self.assertEqual(self.api("pausing", "GET", "/")[1]["state"], "Running")
        self.assert_memory_right("pausing")
