# SPDX-License-Identifier: MIT
"""Recording, replay, Complete, quiesce and what the pager says of itself, with real daemons and
VMs of the stand-in."""

import json
import os
import time
import unittest

from thawlab import busctl, journal, main_pid, wait_for
from thawlab.vms import RESTORE, VmTestCase

IMAGES = "/var/lib/thaw/images"
RESTORED = "thaw-restored.service"


class Record(VmTestCase):
    """thawctl image record."""

    IMAGES = {"small": {"memory_mib": 64, "zero_percent": 20}}

    @classmethod
    def prepare(cls, lab):
        super().prepare(lab)
        # Whoever else uses the machine must not hold the replay up.
        lab.write("/etc/thaw/pagerd.conf.d/50-test.conf",
                  "[Pager]\nMemoryPressureLimit=0\nIOPressureLimit=0\n")

    def setUp(self):
        super().setUp()
        for name in ("access.log", "working-set"):
            self.lab.run(["rm", "-f", f"{IMAGES}/small/{name}"])
        # The guest of each VM that has no profile of its own.
        self.profile_of_recordings(guest={"pattern": "working-set", "touches": 3000})

    def record(self, *options, timeout=60.0):
        return self.lab.run(["thawctl", "image", "record", "small", *options], timeout=timeout)

    def files(self):
        return [n for n in ("access.log", "working-set") if self.lab.exists(f"{IMAGES}/small/{n}")]

    def assert_no_recording_vm(self):
        wait_for(lambda: not [n for n in self.instances() if n.startswith("record")], 20,
                 "the end of the recording VM")
        wait_for(lambda: not self.sessions(), 5, "the end of its session")
        self.assertEqual([n for n in os.listdir(self.lab.path("/run/systemd/system"))
                          if "record" in n], [])
        self.assertEqual([n for n in os.listdir(self.lab.path(f"{IMAGES}/small"))
                          if n.startswith(".")], [])

    def test_record_then_replay(self):
        done = self.record()
        self.assertTrue(done.ok, str(done))
        self.assertIn("pages", done.out)
        self.assertEqual(self.files(), ["access.log", "working-set"])
        self.assert_no_recording_vm()

        self.assertTrue(self.restore("again", "small", backend="auto").ok)
        wait_for(lambda: self.session_property("again", "ReplayState") == "done", 20, "the replay")
        self.assertGreater(self.session_property("again", "BytesReplay"), 0)
        self.assert_memory_right("again")

        off = self.restore("off", "small", "--prefetch=no")
        self.assertTrue(off.ok, str(off))
        self.start_guest("off", pattern="random", touches=200)
        time.sleep(0.5)
        self.assertEqual(self.session_property("off", "BytesReplay"), 0)
        switched = self.lab.run(["thawctl", "prefetch", "off", "yes", "--prefetch-rate=1G"])
        self.assertTrue(switched.ok, str(switched))
        wait_for(lambda: self.session_property("off", "ReplayState") == "done", 20, "the replay")
        self.assert_memory_right("off")

    def test_buffers_that_may_not_be_registered(self):
        self.assertTrue(self.record().ok)

        def replayed(name):
            self.assertTrue(self.restore(name).ok)
            wait_for(lambda: self.session_property(name, "ReplayState") == "done", 20, "the replay")
            self.assert_memory_right(name)
            return self.session_property(name, "ReplayIO")

        self.assertRegex(replayed("allowed"), "-registered$")
        drop_in = "/run/systemd/system/thaw-pagerd.service.d/memlock.conf"
        self.lab.write(drop_in, "[Service]\nLimitMEMLOCK=0\n")
        try:
            self.lab.run(["systemctl", "daemon-reload"], check=True)
            self.lab.run(["systemctl", "restart", "thaw-pagerd.service"], check=True)
            self.assertRegex(replayed("refused"), "^(direct|buffered)$")
        finally:
            self.lab.run(["rm", drop_in], check=True)
            self.lab.run(["systemctl", "daemon-reload"], check=True)
            self.lab.run(["systemctl", "restart", "thaw-pagerd.service"], check=True)

    def test_damaged_working_set_is_ignored_and_said(self):
        self.assertTrue(self.record().ok)
        self.lab.run(["sh", "-c", f"printf xxxx | dd of={IMAGES}/small/working-set bs=1 seek=200 "
                      "conv=notrunc status=none"], check=True)
        self.assertTrue(self.restore("damaged").ok)
        wait_for(lambda: self.session_property("damaged", "ReplayState") == "refused", 10,
                 "the refusal")
        wait_for(lambda: [e for e in journal(self.lab, "THAW_INSTANCE=damaged", "-p", "warning")
                          if "working set" in str(e.get("MESSAGE"))], 5, "the warning")
        self.assert_memory_right("damaged")

    def test_restless_guest_is_capped(self):
        self.profile_of_recordings(guest={"pattern": "random", "rate_per_second": 5000})
        done = self.record("--max=1s")
        self.assertTrue(done.ok, str(done))
        self.assertIn("limit", done.out)
        self.assert_no_recording_vm()

    def test_idle_guest_writes_nothing(self):
        self.profile_of_recordings(guest={"pattern": "none"}, device_touch_pages=0)
        done = self.record("--max=1s")
        self.assertFalse(done.ok)
        self.assertIn("NothingRecorded", done.err)
        self.assertEqual(self.files(), [])
        self.assert_no_recording_vm()

    def test_crash_leaves_nothing(self):
        self.profile_of_recordings(guest={"pattern": "random", "rate_per_second": 5000})
        for delay in (0.05, 0.4, 1.0):
            result, _ = busctl(self.lab, "call", *RESTORE, "RecordImage", "sa{sv}t", "small", "1",
                               "RecordMaxUSec", "t", "20000000", "0")
            self.assertTrue(result.ok, str(result))
            time.sleep(delay)
            self.lab.run(["kill", "-KILL", str(main_pid(self.lab, RESTORED))])
            wait_for(lambda: busctl(self.lab, "call", *RESTORE, "ListJobs")[0].ok, 10,
                     "the restore manager")
            self.assert_no_recording_vm()
            self.assertEqual(self.files(), [])

    def test_two_runs(self):
        done = self.record("--runs=2")
        self.assertTrue(done.ok, str(done))
        self.assertEqual(self.files(), ["access.log", "working-set"])
        self.assert_no_recording_vm()


class Leaving(VmTestCase):
    """Complete and quiesce."""

    IMAGES = {"small": {"memory_mib": 64, "zero_percent": 20}}

    def test_complete_under_load(self):
        self.assertTrue(self.restore("whole").ok)
        self.start_guest("whole", pattern="random", vcpus=2, drop_every=50, rate_per_second=20000)
        worker = self.session_property("whole", "WorkerPID")
        done = self.lab.run(["thawctl", "complete", "whole"], timeout=60)
        self.assertTrue(done.ok, str(done))
        self.assertEqual(self.session_property("whole", "State"), "complete")
        wait_for(lambda: not self.lab.run(["kill", "-0", str(worker)]).ok, 10,
                 "the end of the worker")
        # Nobody is needed any more: the guest goes on giving back and touching.
        self.lab.run(["systemctl", "stop", "thaw-pagerd.socket", "thaw-pagerd.service"], check=True)
        try:
            time.sleep(0.5)
            self.assert_memory_right("whole")
        finally:
            self.lab.run(["systemctl", "start", "thaw-pagerd.socket", "thaw-pagerd.service"],
                         check=True)

    def test_quiesce(self):
        self.assertTrue(self.restore("still").ok)
        self.start_guest("still", pattern="random", vcpus=2, drop_every=50, rate_per_second=5000)
        self.assertTrue(self.lab.run(["thawctl", "pause", "still"]).ok)
        done = self.lab.run(["thawctl", "quiesce", "still"])
        self.assertTrue(done.ok, str(done))
        self.assertTrue(self.session_property("still", "Quiesced"))
        self.assertTrue(self.lab.run(["thawctl", "quiesce", "still", "--release"]).ok)
        self.assertTrue(self.lab.run(["thawctl", "resume", "still"]).ok)
        self.assert_memory_right("still")


class Snapshot(VmTestCase):
    """thawctl snapshot: an image of a VM that runs on."""

    IMAGES = {"small": {"memory_mib": 64, "zero_percent": 20}}

    def tearDown(self):
        super().tearDown()
        self.lab.run(["thawctl", "image", "rm", "copy"])

    def test_snapshot_of_a_half_restored_vm(self):
        self.assertTrue(self.restore("first").ok)
        self.start_guest("first", pattern="random", vcpus=2, write_percent=50, touches=500)
        vmm = main_pid(self.lab, self.unit("first"))
        made = self.lab.run(["thawctl", "snapshot", "first", "copy"], timeout=120)
        self.assertTrue(made.ok, str(made))
        self.assertEqual(main_pid(self.lab, self.unit("first")), vmm)
        self.assert_memory_right("first")
        self.assertTrue(self.lab.run(["thawctl", "image", "verify", "copy"]).ok)
        self.assertEqual(os.listdir(self.lab.path("/var/lib/thaw/snapshots/first")), [])
        self.assertTrue(self.restore("second", "copy").ok)
        self.assert_running("second")
        self.assertTrue(self.lab.run(["thawctl", "stop", "first"]).ok)
        self.assertFalse(self.lab.exists("/var/lib/thaw/snapshots/first"))

    def test_failure_is_undone(self):
        self.profile("refused", api_error={"PUT /snapshot/create": "no such thing"})
        self.assertTrue(self.restore("refused").ok)
        made = self.lab.run(["thawctl", "snapshot", "refused", "copy"], timeout=120)
        self.assertFalse(made.ok)
        self.assertIn("no such thing", made.err)
        self.assertFalse(self.lab.exists(f"{IMAGES}/copy"))
        self.assertEqual(self.instances()["refused"][2], "running")
        self.assert_memory_right("refused")


class Watching(VmTestCase):
    """top, metrics and the metrics socket."""

    def test_top_and_metrics(self):
        self.assertTrue(self.restore("busy").ok)
        self.start_guest("busy", pattern="random", rate_per_second=5000, drop_every=20)
        top = self.lab.run(["thawctl", "top", "--json=short", "-n", "1", "--interval=500ms"])
        self.assertTrue(top.ok, str(top))
        row = json.loads(top.out)[0]
        self.assertEqual(row["name"], "busy")
        self.assertGreater(row["faults_per_second"], 0)
        self.assertIsNotNone(row["fault_p99_usec"])

        text = self.lab.run(["thawctl", "metrics"], check=True).out
        for line in ('thaw_up{daemon="pagerd"} 1', 'thaw_up{daemon="restored"} 1',
                     'thaw_pager_sessions 1',
                     'thaw_session_retries_total{vm="busy",image="small"}',
                     'thaw_session_fault_latency_seconds_bucket{vm="busy",image="small",le="+Inf"}'):
            self.assertIn(line, text)
        self.assertTrue(text.endswith("# EOF\n"))

        answer = self.lab.run(["curl", "-sSi", "--unix-socket", "/run/thaw/metrics.sock",
                               "http://localhost/metrics"])
        self.assertIn("200 OK", answer.out, str(answer))
        self.assertIn("application/openmetrics-text", answer.out)
        self.assertIn('thaw_session_faults_total{vm="busy",image="small"}', answer.out)
        self.assertTrue(answer.out.endswith("# EOF\n"))
        denied = self.lab.run(["curl", "-sS", "--unix-socket", "/run/thaw/metrics.sock",
                               "http://localhost/metrics"], user="nobody")
        self.assertNotEqual(denied.rc, 0)

    def test_metrics_start_nobody(self):
        self.lab.run(["systemctl", "stop", "thaw-pagerd.socket", "thaw-pagerd.service"], check=True)
        try:
            answer = self.lab.run(["curl", "-sS", "--unix-socket", "/run/thaw/metrics.sock",
                                   "http://localhost/metrics"], check=True)
            self.assertIn('thaw_up{daemon="pagerd"} 0', answer.out)
            self.assertIn("thaw_pager_workers_lost_total 0", answer.out)
            self.assertEqual(main_pid(self.lab, "thaw-pagerd.service"), 0)
        finally:
            self.lab.run(["systemctl", "start", "thaw-pagerd.socket", "thaw-pagerd.service"],
                         check=True)


if __name__ == "__main__":
    unittest.main()
