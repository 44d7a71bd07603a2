# SPDX-License-Identifier: MIT
"""The pager is killed, stopped and restarted under load; the guest's memory stays byte for byte."""

import os
import time
import unittest

from thawlab import journal, main_pid, unit, wait_for
from thawlab.vms import VmTestCase

_ROUNDS = 350 if os.environ.get("THAW_SOAK") else 8
BROKER = "thaw-pagerd.service"


class Survival(VmTestCase):
    """SIGKILL and SIGSTOP at moments that differ from round to round."""

    IMAGES = {"small": {"memory_mib": 64, "zero_percent": 20}}

    @classmethod
    def prepare(cls, lab):
        super().prepare(lab)
        # More kills in a row than an admin would let pass.
        lab.write("/etc/thaw/pagerd.conf.d/50-test.conf", "[Pager]\nWorkerRestartLimit=1000\n"
                  "StartLimitBurst=1000\n")

    def busy_vm(self, name):
        self.assertTrue(self.restore(name).ok)
        self.start_guest(name, pattern="random", vcpus=2, write_percent=30, drop_every=100,
                         rate_per_second=20000)

    def kill(self, *pids, signal="KILL"):
        self.lab.run(["kill", f"-{signal}", *[str(p) for p in pids]])

    def worker(self, name):
        return self.session_property(name, "WorkerPID") or 0

    def wait_new_worker(self, name, old):
        return wait_for(lambda: (pid := self.worker(name)) and pid != old and pid, 15,
                        f"a new worker for {name}")

    def assert_unhurt(self, name, vmm):
        self.assertEqual(main_pid(self.lab, self.unit(name)), vmm, "the VMM lived on")
        self.assert_memory_right(name)
        self.assertEqual(self.session_property(name, "State"), "serving")

    def test_worker_killed(self):
        self.busy_vm("w")
        vmm = main_pid(self.lab, self.unit("w"))
        for i in range(_ROUNDS):
            old = self.worker("w")
            time.sleep(0.013 * (i % 7))
            self.kill(old)
            self.wait_new_worker("w", old)
        self.assert_unhurt("w", vmm)

    def test_broker_killed(self):
        self.busy_vm("b")
        vmm, worker = main_pid(self.lab, self.unit("b")), self.worker("b")
        for i in range(_ROUNDS):
            old = main_pid(self.lab, BROKER)
            time.sleep(0.017 * (i % 7))
            self.kill(old)
            wait_for(lambda o=old: main_pid(self.lab, BROKER) not in (0, o), 10, "a new broker")
            wait_for(lambda: self.worker("b") == worker, 10, "the worker's adoption")
        self.assert_unhurt("b", vmm)

    def test_both_killed(self):
        self.busy_vm("both")
        vmm = main_pid(self.lab, self.unit("both"))
        for i in range(_ROUNDS):
            old = self.worker("both")
            time.sleep(0.011 * (i % 7))
            self.kill(old, main_pid(self.lab, BROKER))
            self.wait_new_worker("both", old)
        self.assert_unhurt("both", vmm)

    def test_stuck_worker_is_replaced(self):
        self.busy_vm("stuck")
        vmm, old = main_pid(self.lab, self.unit("stuck")), self.worker("stuck")
        self.kill(old, signal="STOP")
        self.wait_new_worker("stuck", old)
        self.assertGreaterEqual(self.session_property("stuck", "WorkerRestarts"), 1)
        self.assert_unhurt("stuck", vmm)

    def test_restart_and_stop_of_the_broker(self):
        self.busy_vm("admin")
        vmm, worker = main_pid(self.lab, self.unit("admin")), self.worker("admin")
        self.lab.run(["systemctl", "restart", BROKER], check=True)
        wait_for(lambda: self.worker("admin") == worker, 10, "the worker's adoption")
        self.lab.run(["systemctl", "stop", "thaw-pagerd.socket", BROKER], check=True)
        self.assert_memory_right("admin")  # the worker serves on without any broker
        self.lab.run(["systemctl", "start", "thaw-pagerd.socket", BROKER], check=True)
        wait_for(lambda: self.worker("admin") == worker, 10, "the worker's dialing in")
        self.assert_unhurt("admin", vmm)

    def test_vmm_connects_while_the_broker_is_down(self):
        self.profile("early", api_delay_ms=700)
        _, path = self.start_job("early")
        wait_for(lambda: "early" in self.sessions(), 5, "the session")
        self.kill(main_pid(self.lab, BROKER))
        result = self.wait_job(path)
        self.assertEqual(result[0], "done", result)
        self.assert_memory_right("early")

    def test_daemon_reexec(self):
        self.busy_vm("reexec")
        vmm = main_pid(self.lab, self.unit("reexec"))
        self.lab.run(["systemctl", "daemon-reexec"], check=True)
        old = self.worker("reexec")
        self.kill(old, main_pid(self.lab, BROKER))
        self.wait_new_worker("reexec", old)
        self.assert_unhurt("reexec", vmm)

    def test_upgrade_to_a_newly_built_binary(self):
        self.busy_vm("upgraded")
        vmm, worker = main_pid(self.lab, self.unit("upgraded")), self.worker("upgraded")
        # Programs of another build in the place of those that run: new files, other bytes.
        for program in ("thaw-pagerd", "thaw-pager-worker", "thaw-restored"):
            path = self.lab.run(["systemctl", "show", "-P", "ExecStart", BROKER]).out
            folder = path.split("path=")[1].split("/thaw-pagerd")[0]
            self.lab.run(["sh", "-c", f"cp {folder}/{program} {folder}/{program}.new && "
                          f"printf new >> {folder}/{program}.new && "
                          f"mv {folder}/{program}.new {folder}/{program}"], check=True)
        self.lab.run(["systemctl", "daemon-reload"], check=True)
        self.lab.run(["systemctl", "restart", BROKER, "thaw-restored.service"], check=True)
        wait_for(lambda: self.worker("upgraded") == worker, 10, "the old worker's adoption")
        self.kill(worker)  # its successor is of the new build
        new = self.wait_new_worker("upgraded", worker)
        image = os.readlink(self.lab.path(f"/proc/{new}/exe"))
        self.assertNotIn("deleted", image)
        wait_for(lambda: "upgraded" in self.instances(), 10, "the VM on the books")
        self.assert_unhurt("upgraded", vmm)

    def test_waiting_session_lives_through_a_restart_and_fails_at_a_stop(self):
        self.profile("waits", api_delay_ms=2500)
        _, path = self.start_job("waits")
        wait_for(lambda: "waits" in self.sessions(), 5, "the session")
        self.lab.run(["systemctl", "restart", BROKER], check=True)
        wait_for(lambda: "waits" in self.sessions(), 5, "its adoption")
        self.assertEqual(self.wait_job(path)[0], "done")
        self.assert_memory_right("waits")

        self.profile("stopped", api_delay_ms=2500)
        _, path = self.start_job("stopped")
        wait_for(lambda: "stopped" in self.sessions(), 5, "the session")
        self.lab.run(["systemctl", "stop", "thaw-pagerd.socket", BROKER], check=True)
        try:
            self.assert_memory_right("waits")  # served on
            result, _, message = self.wait_job(path)
            self.assertEqual(result, "failed", message)
        finally:
            self.lab.run(["systemctl", "start", "thaw-pagerd.socket", BROKER], check=True)
        self.assert_nothing_left("stopped")
        wait_for(lambda: [e for e in journal(self.lab, "THAW_INSTANCE=stopped")
                          if "the pager was stopped" in str(e.get("MESSAGE"))], 5, "BrokerStopped")

    def test_workers_leave_the_brokers_control_group(self):
        self.busy_vm("group")
        def group():
            with open(self.lab.path(f"/proc/{self.worker('group')}/cgroup"),
                      encoding="ascii") as file:
                return file.read()
        wait_for(lambda: "thaw-pager-workers.service" in group(), 5, "the move of the worker")
        self.lab.run(["systemctl", "stop", self.unit("group")], check=True)
        self.assert_nothing_left("group")


class SafeMode(VmTestCase):
    """A broker that dies again and again keeps what it has and takes nothing new."""

    def test_sixth_start_within_ten_seconds(self):
        self.assertTrue(self.restore("safe").ok)
        for _ in range(7):
            old = main_pid(self.lab, "thaw-pagerd.service")
            self.lab.run(["kill", "-KILL", str(old)])
            wait_for(lambda o=old: main_pid(self.lab, "thaw-pagerd.service") not in (0, o), 10,
                     "a new broker")
            wait_for(lambda: unit(self.lab, "thaw-pagerd.service", "ActiveState")["ActiveState"]
                     == "active", 10, "its readiness")
        refused = self.restore("new")
        self.assertFalse(refused.ok)
        self.assertIn("SafeMode", refused.err)
        self.assert_memory_right("safe")


class Limits(VmTestCase):
    """Limits of a broker are named errors, and hurt nobody who is there."""

    @classmethod
    def prepare(cls, lab):
        super().prepare(lab)
        lab.write("/etc/thaw/pagerd.conf.d/50-test.conf", "[Pager]\nMaxSessions=2\n")

    def test_too_many_sessions(self):
        for name in ("one", "two"):
            self.assertTrue(self.restore(name).ok)
        refused = self.restore("three")
        self.assertFalse(refused.ok)
        self.assertIn("MaxSessions= is reached", refused.err)
        self.assert_nothing_left("three")
        for name in ("one", "two"):
            self.assert_memory_right(name)


class GivenUp(VmTestCase):
    """A worker that dies again and again ends the VM, with the reason said."""

    def test_worker_lost(self):
        self.assertTrue(self.restore("doomed").ok)
        self.start_guest("doomed", pattern="random", drop_every=100, rate_per_second=5000)
        for _ in range(60):
            if self.session_property("doomed", "State") != "serving":
                break
            worker = self.session_property("doomed", "WorkerPID")
            if worker:  # 0 between two workers
                self.lab.run(["kill", "-KILL", str(worker)])
            time.sleep(0.05)
        self.assert_nothing_left("doomed")
        self.assert_logged("doomed", "WorkerLost")


class Shutdown(VmTestCase):
    """The host goes down while VMs run."""

    def test_within_five_seconds(self):
        for i in range(5):
            self.assertTrue(self.restore(f"vm-{i}").ok)
            self.start_guest(f"vm-{i}", pattern="random", rate_per_second=5000)
        self._names.clear()
        self.assertLess(self.lab.shutdown(), 5.0)


if __name__ == "__main__":
    unittest.main()
