# SPDX-License-Identifier: MIT
"""The lab itself: exit codes, isolation from the machine, and that nothing is left behind."""

import glob
import os
import signal
import subprocess
import sys
import unittest

from thawlab import Lab, LabError, Mount, wait_for
from thawlab.cgroup import cgroup2_mount

_SYSCTLS = ("fs/nr_open", "fs/file-max", "fs/protected_hardlinks", "fs/protected_symlinks",
            "kernel/core_pattern", "kernel/pid_max")


def sysctls():
    values = {}
    for name in _SYSCTLS:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            values[name] = file.read()
    return values


def left_over(pid):
    """Control groups and scratch folders of the labs of process `pid`."""
    groups = glob.glob(os.path.join(cgroup2_mount(), f"thaw-lab-{pid}-*"))
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line for line in file if "/thaw-lab-" in line]
    return groups + mounts


class LabItself(unittest.TestCase):
    """Containers without the build."""

    def test_commands_give_back_output_and_exit_code(self):
        with Lab() as lab:
            result = lab.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
            self.assertEqual((result.rc, result.out, result.err), (7, "out\n", "err\n"))
            self.assertEqual(lab.run(["cat"], stdin="given").out, "given")
            self.assertEqual(lab.run_unit(["sh", "-c", "exit 9"]).rc, 9)
            self.assertEqual(lab.run(["id", "-un"], user="visitor").out, "visitor\n")
            self.assertIn("(thaw)", lab.run(["id"], user="tester").out)
            self.assertEqual(lab.run(["sleep", "30"], timeout=0.2).rc, 124)
            with self.assertRaises(LabError):
                lab.run(["false"], check=True)

    def test_nothing_of_the_machine_changes(self):
        before = sysctls()
        node = os.stat("/dev/null")
        with Lab() as lab:
            lab.run(["chmod", "600", "/dev/null"], check=True)
            lab.run(["sh", "-c", "echo changed >/etc/hostname"], check=True)
            self.assertNotEqual(lab.run(["sh", "-c", "echo 1 >/proc/sys/fs/nr_open"]).rc, 0)
            self.assertEqual(sysctls(), before)
        self.assertEqual(os.stat("/dev/null").st_mode, node.st_mode)
        self.assertEqual(sysctls(), before)
        self.assertEqual(left_over(os.getpid()), [])

    def test_only_known_units_run(self):
        with Lab() as lab:
            listed = lab.run(["systemctl", "list-units", "--type=service", "--state=running",
                              "--plain", "--no-legend"], check=True).out
            running = {line.split()[0] for line in listed.splitlines()}
            self.assertLessEqual(running, {"dbus.service", "systemd-journald.service",
                                           "dbus-broker.service"})

    def test_mounts_and_files(self):
        lab = Lab(mounts=[Mount(os.path.dirname(__file__), "/mnt/tests", read_only=True)])
        try:
            lab.write("/etc/planted", "before boot")
            lab.boot()
            lab.write("/run/later/file", "after boot", mode=0o600)
            self.assertEqual(lab.run(["cat", "/etc/planted", "/run/later/file"]).out,
                             "before bootafter boot")
            self.assertTrue(lab.exists("/mnt/tests/test_00_lab.py"))
            self.assertNotEqual(lab.run(["touch", "/mnt/tests/x"]).rc, 0)
        finally:
            lab.close()

    def test_two_side_by_side(self):
        with Lab() as one, Lab() as two:
            one.write("/run/only-one", "")
            self.assertFalse(two.exists("/run/only-one"))
            self.assertNotEqual(one.leader, two.leader)
        self.assertEqual(left_over(os.getpid()), [])

    def test_killed_lab_leaves_nothing(self):
        code = ("import sys, time; from thawlab import Lab\n"
                "with Lab() as lab:\n print(lab.leader, flush=True)\n time.sleep(60)")
        for number in (signal.SIGKILL, signal.SIGTERM):
            with self.subTest(signal=number.name), subprocess.Popen(
                    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
                leader = int(process.stdout.readline())
                process.send_signal(number)
                process.wait()
                wait_for(lambda pid=leader: not os.path.exists(f"/proc/{pid}"), 5,
                         "the end of the container")
                wait_for(lambda pid=process.pid: not left_over(pid), 5, "the clean-up")

    def test_power_off_is_orderly_and_quick(self):
        with Lab() as lab:
            self.assertLess(lab.shutdown(), 5.0)
