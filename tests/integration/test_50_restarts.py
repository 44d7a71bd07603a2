# SPDX-License-Identifier: MIT
"""Each daemon is restarted at every stage of a restore: the VM runs and is known, or was stopped
and that was said."""

import os
import time

from thawlab import busctl, journal, main_pid, wait_for
from thawlab.stages import STAGES, held_at
from thawlab.vms import RESTORE, VmTestCase

RESTORED = "thaw-restored.service"
BROKER = "thaw-pagerd.service"
WAYS = ("KILL", "restart") if os.environ.get("THAW_THOROUGH") else ("KILL",)


class Restarts(VmTestCase):
    """Restarts in the middle and afterwards."""

    def restart_at(self, daemon, how, stage):
        """Ends that daemon while a restore stands in that stage; the VM's name, the job's path."""
        name = f"{daemon}-{how}-{stage}".lower()
        pid = main_pid(self.lab, f"thaw-{daemon}.service")
        with held_at(self, name, stage) as (_, path):
            if how == "KILL":
                self.lab.run(["kill", "-KILL", str(pid)], check=True)
            elif STAGES[stage].frozen == "pid1":
                # What `systemctl restart` would send; it is started again all the same.
                self.lab.run(["kill", "-TERM", str(pid)], check=True)
            else:
                self.lab.run(["systemctl", "restart", f"thaw-{daemon}.service"], check=True)
        wait_for(lambda: main_pid(self.lab, f"thaw-{daemon}.service") not in (0, pid), 10,
                 f"the restart of {daemon}")
        return name, path

    def settled(self, name):
        """True when the VM runs and is known, or is gone without a trace of the attempt."""
        wait_for(lambda: busctl(self.lab, "call", *RESTORE, "ListJobs")[1] == [[]], 40,
                 "the end of all jobs")
        return name in self.instances()

    def check_consistent(self, name):
        if self.settled(name):
            self.assert_running(name)
            self.assert_memory_right(name)
            return "runs"
        self.assert_nothing_left(name)
        said = [e for e in journal(self.lab, f"THAW_INSTANCE={name}", "-p", "err")
                if e.get("MESSAGE_ID")]
        self.assertTrue(said, "a VM that was stopped is spoken of")
        return "stopped"

    def test_restored_at_every_stage(self):
        for how in WAYS:
            for stage in STAGES:
                with self.subTest(how=how, stage=stage):
                    name, _ = self.restart_at("restored", how, stage)
                    wait_for(lambda: busctl(self.lab, "call", *RESTORE, "ListJobs")[0].ok, 10,
                             "the restore manager")
                    self.check_consistent(name)

    def test_the_others_at_every_stage(self):
        """A restore that was accepted does without any of them for a moment."""
        for daemon in ("pagerd", "diskguardd", "sharesd"):
            for how in WAYS:
                for stage in STAGES:
                    with self.subTest(daemon=daemon, how=how, stage=stage):
                        name, path = self.restart_at(daemon, how, stage)
                        result = self.wait_job(path)
                        self.assertEqual(result[0], "done", result)
                        self.assert_memory_right(name)
                        self.assertTrue(self.lab.run(["thawctl", "stop", name]).ok)
                        self.assert_nothing_left(name)
                        if daemon == "pagerd":
                            time.sleep(2.5)  # stay clear of safe mode

    def test_restored_at_any_moment(self):
        for delay in range(0, 100, 10):
            name = f"any-{delay}"
            self.start_job(name)
            time.sleep(delay / 1000)
            self.lab.run(["kill", "-KILL", str(main_pid(self.lab, RESTORED))])
            wait_for(lambda: busctl(self.lab, "call", *RESTORE, "ListJobs")[0].ok, 10,
                     "the restore manager")
            if self.check_consistent(name) == "runs":
                self.assertTrue(self.lab.run(["thawctl", "stop", name]).ok)
                self.assert_nothing_left(name)

    def test_running_vms_are_known_again(self):
        self.assertTrue(self.restore("kept").ok)
        vmm = main_pid(self.lab, self.unit("kept"))
        self.lab.run(["systemctl", "restart", RESTORED], check=True)
        wait_for(lambda: "kept" in self.instances(), 10, "the VM's adoption")
        self.assertEqual(main_pid(self.lab, self.unit("kept")), vmm)
        self.assert_memory_right("kept")
        self.assertTrue(self.lab.run(["thawctl", "stop", "kept"]).ok)
        self.assert_nothing_left("kept")

    def test_vm_that_ended_while_restored_was_away(self):
        self.assertTrue(self.restore("gone").ok)
        self.lab.run(["systemctl", "stop", RESTORED], check=True)
        self.lab.run(["systemctl", "stop", self.unit("gone")], check=True)
        self.lab.run(["systemctl", "start", RESTORED], check=True)
        self.assert_nothing_left("gone")

    def test_pagerd_stopped_while_a_vmm_is_awaited(self):
        with held_at(self, "awaited", "starting") as (_, path):
            self.lab.run(["systemctl", "stop", "thaw-pagerd.socket", BROKER], check=True)
        try:
            result, error, message = self.wait_job(path)
            self.assertEqual(result, "failed")
            self.assertTrue(error, message)
        finally:
            self.lab.run(["systemctl", "start", "thaw-pagerd.socket", BROKER], check=True)
        self.assert_nothing_left("awaited")
