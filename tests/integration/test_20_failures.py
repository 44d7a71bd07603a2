# SPDX-License-Identifier: MIT
"""Every misbehaviour ends in a stopped unit, a named error, a journal entry and nothing left over."""

from thawlab import journal, unit, wait_for
from thawlab.vms import RESTORE, VmTestCase

_SHORT = ("--load-timeout", "2s")
_LONGER = ("--load-timeout", "10s")  # than the pager's HandshakeTimeoutSec=

# profile keys, options of the restore, error names of which one must come
MISBEHAVIOURS = {
    # Nobody serves the device restore's first touches, so the load itself hangs.
    "never-connect": ({"never_connect": True}, _SHORT, ("LoadTimeout",)),
    "says-nothing": ({"connect_but_send_nothing": True}, _LONGER, ("PagerFailed",)),
    "malformed": ({"malformed_json": True}, (), ("PagerFailed",)),
    "huge-json": ({"huge_json": True}, (), ("PagerFailed",)),
    "truncated": ({"truncated_json": True}, _LONGER, ("PagerFailed",)),
    "overlapping": ({"overlapping_regions": True}, (), ("PagerFailed",)),
    "unaligned": ({"unaligned_regions": True}, (), ("PagerFailed",)),
    "wrong-offsets": ({"wrong_offsets": True}, (), ("PagerFailed",)),
    "sum-mismatch": ({"sum_mismatch": True}, (), ("PagerFailed",)),
    "no-descriptor": ({"no_fd": True}, (), ("PagerFailed",)),
    "many-descriptors": ({"descriptors": 20}, (), ("PagerFailed",)),
    "not-userfaultfd": ({"fd_not_uffd": True}, (), ("PagerFailed",)),
    "hang-in-load": ({"hang_in_load": True}, _SHORT, ("LoadTimeout",)),
    "load-error": ({"load_error": "the CPU does not match"}, (), ("LoadFailed",)),
    "resume-error": ({"resume_error": "no vCPU"}, (), ("ResumeFailed", "LoadFailed")),
    "no-api": ({"no_api": True}, _SHORT, ("VmmUnreachable",)),
    "dies-at-exec": ({"die_at": "exec"}, (), ("VmmDied", "UnitStartFailed", "VmmUnreachable")),
    "dies-before-connect": ({"die_at": "before-connect"}, (), ("VmmDied", "LoadFailed")),
    "dies-after-connect": ({"die_at": "after-connect"}, (), ("VmmDied", "LoadFailed", "PagerFailed")),
    "dies-after-send": ({"die_at": "after-send"}, (), ("VmmDied", "LoadFailed", "PagerFailed")),
    "dies-after-load": ({"die_at": "after-load"}, (), ("VmmDied", "ResumeFailed", "PagerFailed")),
    "dies-on-resume": ({"die_at": "on-resume"}, (), ("VmmDied", "ResumeFailed", "PagerFailed")),
}


class Failures(VmTestCase):
    """The stand-in misbehaves on request."""

    def test_misbehaviours(self):
        self.assertTrue(self.restore("bystander").ok)
        self.start_guest("bystander", pattern="random", rate_per_second=2000, drop_every=100)
        before = self.stored_descriptors()
        for name, (keys, options, expected) in MISBEHAVIOURS.items():
            with self.subTest(name):
                self.profile(name, **keys)
                failed = self.restore(name, "small", *options)
                self.assertFalse(failed.ok, str(failed))
                self.assertTrue(any(e in failed.err for e in expected), str(failed))
                self.assert_nothing_left(name)
                entry = self.assert_logged(name, "")
                self.assertEqual(entry.get("OBJECT_SYSTEMD_UNIT") or entry.get("UNIT"),
                                 self.unit(name))
                wait_for(lambda: self.stored_descriptors() == before, 5, "an emptied store")
        wait_for(lambda: len(self.workers()) == 1, 5, "the end of the other workers")
        self.assert_memory_right("bystander")

    def test_status_of_the_unit_names_the_cause(self):
        self.profile("status", load_error="a very odd snapshot")
        self.assertFalse(self.restore("status").ok)
        status = self.lab.run(["systemctl", "--no-pager", "-n", "20", "status",
                               self.unit("status")]).out
        self.assertIn("a very odd snapshot", status)

    def test_unstoppable_vmm_is_killed(self):
        self.profile("stubborn", ignore_sigterm=True, hang_in_load=True)
        failed = self.restore("stubborn", "small", *_SHORT)
        self.assertIn("LoadTimeout", failed.err)
        self.assert_nothing_left("stubborn")

    def test_vmm_that_dies_later_is_noticed(self):
        self.profile("mortal", die_at="after-ms:300")
        self.assertTrue(self.restore("mortal").ok)
        self.assert_nothing_left("mortal")
        self.assertTrue(journal(self.lab, "THAW_INSTANCE=mortal", "-p", "warning"))

    def test_bad_requests_are_refused(self):
        for name, image, word in (("ok", "absent", "NoSuchImage"), ("-bad", "small", "InvalidName"),
                                  ("x" * 64, "small", "InvalidName"),
                                  ("ok", "../escape", "InvalidName")):
            with self.subTest(name=name, image=image):
                # thawctl refuses such names itself: ask the daemon.
                service, path, interface = RESTORE
                answer = self.lab.run(["gdbus", "call", "--system", "--dest", service,
                                       "--object-path", path, "--method",
                                       f"{interface}.RestoreInstance", "--", f"'{name}'",
                                       f"'{image}'", "{}", "uint64 0"])
                if answer.ok:  # what only the job can find out is the job's error
                    job = answer.out.split("'")[1]
                    self.assertIn(word, self.wait_job(job)[1])
                else:
                    self.assertIn(word, answer.err)

    def test_truncated_memory_is_never_served(self):
        self.make_image("cut", memory_mib=16)
        self.lab.run(["truncate", "-s", "8M", "/var/lib/thaw/images/cut/memory"], check=True)
        refused = self.restore("cut", "cut")
        self.assertFalse(refused.ok)
        self.assertIn("ImageMismatch", refused.err)

    def test_corrupt_page_stops_the_vm(self):
        self.make_image("rotten", memory_mib=16, zero_percent=0)
        self.lab.run(["sh", "-c", "printf rot | dd of=/var/lib/thaw/images/rotten/memory bs=1 "
                      "seek=8388608 conv=notrunc status=none"], check=True)
        self.assertTrue(self.restore("rotten", "rotten").ok)
        try:  # the touch of the bad page never returns: the VM is stopped under it
            self.api("rotten", "PUT", "/standin/verify", {}, timeout=20)
        except OSError:
            pass
        self.assert_nothing_left("rotten")
        self.assert_logged("rotten", "")

    def test_unit_that_cannot_start(self):
        service = self.unit("no-exec")
        self.lab.write(f"/etc/systemd/system/{service}.d/90-broken.conf",
                       "[Service]\nExecStart=\nExecStart=/no/such/vmm\n")
        failed = self.restore("no-exec")
        self.assertFalse(failed.ok)
        self.assertIn("UnitStartFailed", failed.err)
        self.assertIn(unit(self.lab, service, "ActiveState")["ActiveState"], ("failed", "inactive"))
