# SPDX-License-Identifier: MIT
"""The disk guardian in a real systemd: arming at boot, release, leases, levels, and the VMs."""

import json
import os
import shutil
import subprocess
import tempfile

from thawlab import Mount, busctl, journal, main_pid, unit_state, wait_for
from thawlab.vms import GUARD, STANDIN, VmTestCase

_UNIT = "thaw-diskguardd.service"
_IMAGES = "/var/lib/thaw/images"
_DATA = "/srv/data"
_VOLUME = "org.thaw.diskguard1.Volume"
_MIB = 1 << 20


class Disk(VmTestCase):
    """Images on one loop-mounted ext4, a writable drive's file on another."""

    IMAGES = {"small": {"memory_mib": 8}}
    CONFIG = ""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="thaw-disk-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.MOUNTS = tuple(Mount(cls.make_disk(name, size), target) for name, size, target in (
            ("images", 512, _IMAGES), ("data", 256, _DATA)))
        super().setUpClass()

    @classmethod
    def make_disk(cls, name, mebibytes):
        image, point = (os.path.join(cls.folder, f"{name}{suffix}") for suffix in (".img", ""))
        os.mkdir(point)
        # Not sparse: a reserve on a thin backing is a case of its own.
        subprocess.run(["fallocate", "-l", f"{mebibytes}M", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, point], check=True)
        cls.addClassCleanup(subprocess.run, ["umount", "-l", point], check=False)
        return point

    @classmethod
    def prepare(cls, lab):
        super().prepare(lab)
        lab.write("/etc/thaw/diskguardd.conf.d/50-test.conf",
                  f"[Guard]\nPaths={_IMAGES} {_DATA}\nReserveSize=32M\nRearmSettleSec=1s\n"
                  "PollFastestSec=50ms\nPollIdleSec=100ms\nPollSlowestSec=200ms\n"
                  "[Levels]\nLowPercent=50%\nCriticalPercent=15%\nFullPercent=3%\nSettleSec=200ms\n"
                  f"[Policy]\n{cls.CONFIG}")

    def setUp(self):
        super().setUp()
        self.wait_armed(_IMAGES)
        self.wait_armed(_DATA)

    def tearDown(self):
        for point in (_IMAGES, _DATA):
            self.lab.run(["rm", "-f", f"{point}/filler"])
        super().tearDown()

    # ---- the guardian ----------------------------------------------------------------------------

    def volume(self, path):
        return busctl(self.lab, "call", *GUARD, "GetVolume", "s", path)[1][0]

    def get(self, path, name):
        return busctl(self.lab, "get-property", GUARD[0], self.volume(path), _VOLUME, name)[1]

    def wait_for_property(self, path, name, value, timeout=20):
        wait_for(lambda: self.get(path, name) == value, timeout,
                 f"{name} of {path} to be {value}, it is {self.get(path, name)}", interval=0.1)

    def wait_armed(self, path):
        self.wait_for_property(path, "State", "armed")

    def free(self, path):
        stat = self.lab.run(["stat", "-f", "-c", "%a %S", path], check=True).out.split()
        return int(stat[0]) * int(stat[1])

    def fill(self, path, leave):
        """Takes free space in ever smaller steps until `leave` bytes are left."""
        size = self.free(path) - leave
        self.lab.run(["sh", "-c", f"fallocate -o $(stat -c %s {path}/filler 2>/dev/null || echo 0) "
                      f"-l {size} {path}/filler"], check=leave > 0)
        if leave == 0:
            for step in ("1M", "4K", "1"):
                self.lab.run(["dd", "if=/dev/zero", f"of={path}/filler", f"bs={step}", "conv=notrunc",
                              "oflag=append"])

    def reserve(self, path, size):
        """Starts a process that holds a lease; what it answers ends that process."""
        code = ("import dbus, os, time\n"
                "bus = dbus.SystemBus()\n"
                "guard = dbus.Interface(bus.get_object('org.thaw.diskguard1',"
                " '/org/thaw/diskguard1'), 'org.thaw.diskguard1.Manager')\n"
                f"fd = guard.Reserve('{path}', dbus.UInt64({size}), 'a test', 'to see',"
                " dbus.UInt64(0)).take()\n"
                "print(os.getpid(), flush=True)\ntime.sleep(600)\n")
        process = self.lab.popen(["/usr/bin/python3", "-c", code], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        pid = process.stdout.readline().strip()
        self.assertTrue(pid.isdigit(), pid)
        self.addCleanup(self.lab.run, ["kill", "-9", pid])
        return lambda: self.lab.run(["kill", "-9", pid], check=True)

    def leases(self):
        return busctl(self.lab, "call", *GUARD, "ListLeases")[1][0]

    def kill_guardian(self):
        old = main_pid(self.lab, _UNIT)
        self.lab.run(["systemctl", "kill", "-s", "KILL", _UNIT], check=True)
        wait_for(lambda: main_pid(self.lab, _UNIT) not in (0, old), what="a new guardian")
        wait_for(lambda: unit_state(self.lab, _UNIT) == "active", what="it to be ready")


class Reserve(Disk):
    """Arming and releasing."""

    def test_armed_at_boot_as_measured(self):
        for path in (_IMAGES, _DATA):
            self.assertEqual(self.get(path, "ReleasableBytes"), 32 * _MIB)
            self.assertEqual(self.get(path, "FileSystem"), "ext4")
        rows = json.loads(self.lab.run(["thawctl", "df", "--json=short"], check=True).out)
        self.assertEqual(sorted(v["MountPoint"] for v in rows["volumes"]), [_DATA, _IMAGES])
        self.assertTrue(journal(self.lab, f"_SYSTEMD_UNIT={_UNIT}", "THAW_STATE=armed"))
        doctor = self.lab.run(["thawctl", "doctor"])
        self.assertIn(f"reserve.{_DATA}", doctor.out)

    def test_release_over_the_bus(self):
        self.fill(_DATA, 16 * _MIB)
        before = self.free(_DATA)
        done = self.lab.run(["thawctl", "reserve", "release", _DATA])
        self.assertTrue(done.ok, str(done))
        self.assertIn("gained (measured)", done.out)
        self.assertAlmostEqual(self.free(_DATA) - before, 32 * _MIB, delta=_MIB)
        self.assertEqual(self.get(_DATA, "State"), "released")
        # It stays released over a restart and a crash, with twice its size not free.
        self.lab.run(["systemctl", "restart", _UNIT], check=True)
        self.kill_guardian()
        self.wait_for_property(_DATA, "Rearm", "deferred")
        self.assertEqual(self.get(_DATA, "State"), "released")
        said = journal(self.lab, f"_SYSTEMD_UNIT={_UNIT}", "THAW_MOUNT_POINT=" + _DATA)
        said = [e for e in said if "THAW_THRESHOLD" in e]
        self.assertEqual(int(said[-1]["THAW_NEEDED"]), 32 * _MIB)
        self.assertEqual(int(said[-1]["THAW_THRESHOLD"]), 64 * _MIB)
        self.assertLess(int(said[-1]["THAW_FREE"]), 64 * _MIB)
        self.lab.run(["rm", f"{_DATA}/filler"], check=True)
        self.wait_armed(_DATA)

    def test_release_at_zero_free_without_daemon_and_bus(self):
        self.fill(_DATA, 0)
        probe = ["sh", "-c", f"printf x >>{_DATA}/probe"]
        self.assertFalse(self.lab.run(["dd", "if=/dev/zero", f"of={_DATA}/probe", "bs=4K",
                                       "count=1"]).ok)
        self.lab.run(["systemctl", "mask", "--runtime", "--now", _UNIT], check=True)
        try:
            done = self.lab.run(["thawctl", "reserve", "release", _DATA],
                                env={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"})
            self.assertTrue(done.ok, str(done))
            self.assertIn("32.0M gained (measured)", done.out)
            self.assertTrue(self.lab.run(probe).ok)
            # Nothing more to release is no error.
            again = self.lab.run(["thawctl", "reserve", "release", _DATA])
            self.assertTrue(again.ok, str(again))
            shown = self.lab.run(["thawctl", "reserve", "status"])
            self.assertTrue(shown.ok, str(shown))
        finally:
            self.lab.run(["systemctl", "unmask", "--runtime", _UNIT], check=True)
            self.lab.run(["rm", "-f", f"{_DATA}/probe", f"{_DATA}/filler"])
            self.lab.run(["systemctl", "start", _UNIT], check=True)

    def test_who_may_release(self):
        for user in ("tester", "visitor"):
            denied = self.lab.run(["thawctl", "reserve", "release", _DATA, "--no-ask-password"],
                                  user=user)
            self.assertEqual(denied.rc, 4, str(denied))
            looked = self.lab.run(["thawctl", "df"], user=user)
            self.assertTrue(looked.ok, str(looked))
        self.assertEqual(self.get(_DATA, "State"), "armed")
        self.lab.write("/etc/polkit-1/rules.d/10-release.rules",
                       'polkit.addRule(function(action, subject) { if (action.id == '
                       '"org.thaw.diskguard1.release-reserve" && subject.user == "visitor") '
                       'return polkit.Result.YES; });')
        self.addCleanup(self.lab.run, ["rm", "/etc/polkit-1/rules.d/10-release.rules"])
        wait_for(lambda: self.lab.run(["thawctl", "reserve", "release", _DATA], user="visitor").ok,
                 what="the rule to be read")

    def test_sigkill_at_random_moments(self):
        for round_ in range(8):
            if round_ % 2:
                self.lab.run(["thawctl", "reserve", "release", _DATA])
                # RearmSettleSec= is a second: about then it lays again.
                self.lab.run(["sleep", f"1.0{round_}"])
            self.kill_guardian()
        self.wait_armed(_DATA)
        self.assertEqual(self.get(_DATA, "ReleasableBytes"), 32 * _MIB)
        names = self.lab.run(["ls", "-A", f"{_DATA}/.thaw-reserve"], check=True).out.split()
        self.assertEqual([n for n in names if n not in ("README", "probe")
                          and not n.startswith("chunk-")], [], "left by a kill")

    def test_a_running_vm_is_untouched(self):
        self.assertTrue(self.restore("steady").ok)
        self.start_guest("steady", pattern="random", touches=2000, write_percent=30)
        for _ in range(5):
            done = self.lab.run(["thawctl", "reserve", "release", _IMAGES])
            self.assertTrue(done.ok, str(done))
            self.wait_armed(_IMAGES)
        self.assert_running("steady")
        self.assert_memory_right("steady")


class Promises(Disk):
    """Leases and levels."""

    def test_leases_survive_the_guardian_not_their_owner(self):
        end_owner = self.reserve(_DATA, 50 * _MIB)
        self.assertEqual(self.get(_DATA, "PromisedBytes"), 50 * _MIB)
        self.lab.run(["systemctl", "restart", _UNIT], check=True)
        self.assertEqual([lease[2] for lease in self.leases()], [50 * _MIB])
        self.kill_guardian()
        self.assertEqual([lease[2] for lease in self.leases()], [50 * _MIB])
        fits = busctl(self.lab, "call", *GUARD, "CanFit", "st", _DATA, str(self.free(_DATA)))[1]
        self.assertFalse(fits[0])
        end_owner()
        wait_for(lambda: not self.leases(), what="the lease to end with its owner")

    def test_levels_start_and_stop_hooks(self):
        self.lab.write("/etc/systemd/system/notice.service",
                       "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n"
                       "[Unit]\nPartOf=thaw-disk-critical@srv-data.target\n"
                       "[Install]\nWantedBy=thaw-disk-critical@srv-data.target\n")
        self.lab.run(["systemctl", "enable", "notice.service"], check=True)
        levels = []
        for leave, level in ((100, "low"), (30, "critical"), (1, "full")):
            self.fill(_DATA, leave * _MIB)
            self.wait_for_property(_DATA, "Level", level)
            levels.append(level)
            target = f"thaw-disk-{level}@srv-data.target"
            wait_for(lambda t=target: unit_state(self.lab, t) == "active", what=target)
        self.assertEqual(unit_state(self.lab, "notice.service"), "active")
        wait_for(lambda: unit_state(self.lab, "thaw-disk-emergency.target") == "active",
                 what="the emergency target")
        said = [e.get("THAW_LEVEL") for e in journal(self.lab, f"_SYSTEMD_UNIT={_UNIT}",
                                                     f"THAW_MOUNT_POINT={_DATA}")]
        for level in levels:
            self.assertIn(level, said)
        self.lab.run(["rm", f"{_DATA}/filler"], check=True)
        self.wait_for_property(_DATA, "Level", "normal")
        wait_for(lambda: unit_state(self.lab, "notice.service") == "inactive",
                 what="the hook to end")
        self.assertEqual(unit_state(self.lab, "thaw-disk-emergency.target"), "inactive")

    def test_restore_and_import_that_do_not_fit(self):
        end_owner = self.reserve(_IMAGES, self.free(_IMAGES) - 8 * _MIB)
        refused = self.restore("wide")
        self.assertFalse(refused.ok)
        self.assertIn("NoSpace", refused.err)
        self.assertRegex(refused.err, r"needs 16\.0M on .*: .* are free, .* of them promised")
        self.assertIn(f"thawctl reserve release {_IMAGES}", refused.err)
        self.assert_nothing_left("wide")
        end_owner()
        wait_for(lambda: not self.leases(), what="the promise to end")
        self.fill(_IMAGES, 40 * _MIB)
        self.wait_for_property(_IMAGES, "Level", "critical")
        refused = self.restore("wide")
        self.assertIn("critical", refused.err)
        folder = "/var/tmp/snapshot-late"
        self.lab.run([STANDIN, "--make-snapshot", folder, "--memory-mib", "8"], check=True)
        late = self.lab.run(["thawctl", "image", "import", "late", "--state", f"{folder}/vmstate",
                             "--memory", f"{folder}/memory", "--vmm-version", "1.12.0"])
        self.assertFalse(late.ok)
        self.assertIn("critical", late.err)
        self.assertIn(f"thawctl reserve release {_IMAGES}", late.err)
        self.lab.run(["rm", f"{_IMAGES}/filler"], check=True)
        self.wait_for_property(_IMAGES, "Level", "normal")
        self.assertTrue(self.restore("wide").ok)
        self.assertEqual(self.leases(), [])

    def test_a_recording_runs_into_the_floor(self):
        # It never comes to rest: there is time to fill the disk while it runs.
        self.profile_of_recordings(guest={"pattern": "random", "rate_per_second": 5000})
        recording = self.lab.popen(["thawctl", "image", "record", "small", "--max=4s"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: "record" in self.lab.run(["thawctl", "list"]).out, what="the recording")
        self.fill(_IMAGES, 40 * _MIB)
        self.wait_for_property(_IMAGES, "Level", "critical")
        _, said = recording.communicate(timeout=30)
        self.assertEqual(recording.returncode, 1, said)
        self.assertIn("NoSpace", said)
        self.assertIn(f"thawctl reserve release {_IMAGES}", said)
        self.assertEqual(sorted(os.listdir(self.lab.path(f"{_IMAGES}/small"))),
                         ["image.json", "memory", "memory.map", "vmstate"])
        wait_for(lambda: "record" not in self.lab.run(["thawctl", "list"]).out,
                 what="the end of the recording VM")
        self.assertEqual(self.leases(), [])
        refused = self.lab.run(["thawctl", "image", "record", "small"])
        self.assertIn("critical", refused.err)

    def test_without_the_guardian(self):
        self.lab.run(["systemctl", "mask", "--runtime", "--now", _UNIT], check=True)
        try:
            self.assertTrue(self.restore("alone").ok)
            self.assertTrue(self.restore("alone-2").ok)
            said = [e for e in journal(self.lab, "_SYSTEMD_UNIT=thaw-restored.service")
                    if "no disk guardian" in str(e.get("MESSAGE"))]
            self.assertEqual(len(said), 1)
        finally:
            self.lab.run(["systemctl", "unmask", "--runtime", _UNIT], check=True)
            self.lab.run(["systemctl", "start", _UNIT], check=True)


class Pause(Disk):
    """Writers=pause, Release=auto."""

    IMAGES = {"small": {"memory_mib": 8}, "writer": {
        "memory_mib": 8, "import_options": ("--drive", f"data={_DATA}/data.img")}}
    CONFIG = "Writers=pause\nRelease=auto\n"

    def test_writers_wait_and_run_again(self):
        self.lab.run(["sh", "-c", f"truncate -s 1M {_DATA}/data.img; chmod 666 {_DATA}/data.img"],
                     check=True)
        for name, image in (("bystander", "small"), ("author", "writer")):
            self._names.append(name)
            done = self.lab.run(["thawctl", "restore", name, image])
            self.assertTrue(done.ok, str(done))

        def state(name):
            return next((v["state"] for v in json.loads(
                self.lab.run(["thawctl", "list", "--json=short"]).out) if v["name"] == name), None)
        self.fill(_DATA, 0)
        wait_for(lambda: state("author") == "paused", 20, "the writer to be paused")
        self.assertEqual(state("bystander"), "running")
        # Released once they had stopped; and what that gave does not wake them.
        self.wait_for_property(_DATA, "State", "released")
        self.lab.run(["systemctl", "restart", "thaw-restored.service"], check=True)
        self.assertEqual(state("author"), "paused")
        self.lab.run(["rm", f"{_DATA}/filler"], check=True)
        wait_for(lambda: state("author") == "running", 20, "the writer to run again")
        self.wait_armed(_DATA)
        for word in ("paused", "runs again"):
            self.assertTrue([e for e in journal(self.lab, "_SYSTEMD_UNIT=thaw-restored.service",
                                                "THAW_INSTANCE=author")
                             if word in str(e.get("MESSAGE"))], word)
