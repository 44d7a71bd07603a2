# SPDX-License-Identifier: MIT
"""VMs whose memory is on a web server: it comes when it is needed, once for all of them, and
neither the server's faults nor anybody's death is seen by the guest."""

import json

from thawlab import busctl, hugepages, journal, main_pid, wait_for
from thawlab.vms import PAGER, STANDIN, VmTestCase
from thawlab.web import URL, WEB, prepare_web, start_web, stop_web

BROKER = "thaw-pagerd.service"
FETCHER = "thaw-fetchd.service"
MIB = 1 << 20
CHUNK = 4 * MIB
PAGE = 4096


class RemoteRestore(VmTestCase):
    IMAGES = {"small": {"memory_mib": 96, "zero_percent": 10}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        prepare_web(cls.lab)
        cls.lab.run(["thawctl", "image", "push", "small", f"{URL}/quick/small"], check=True)

    def setUp(self):
        super().setUp()
        # What an earlier test left in the cache is of no use here.
        self.lab.run(["systemctl", "stop", BROKER], check=True)
        self.lab.run(["systemctl", "reset-failed", BROKER, "thaw-pagerd.socket"])
        self.lab.run(["systemctl", "start", "thaw-pagerd.socket", BROKER], check=True)

    def tearDown(self):
        super().tearDown()
        self.lab.run(["thawctl", "image", "rm", "far"])

    def add(self, url=f"{URL}/quick/small"):
        done = self.lab.run(["thawctl", "image", "add-remote", "far", url], timeout=60)
        self.assertTrue(done.ok, str(done))

    def cache(self, name):
        _, value = busctl(self.lab, "get-property", *PAGER[:2], "org.thaw.pager1.Cache", name)
        return value

    def kill(self, pid):
        self.lab.run(["kill", "-KILL", str(pid)], check=True)

    def assert_right(self, name, image="small"):
        """All of the memory of a guest that wrote nothing, compared with the image's."""
        status, answer = self.api(name, "PUT", "/standin/hash", {}, timeout=120)
        self.assertEqual(status, 200, answer)
        sealed = self.lab.run([STANDIN, "--hash", f"/var/lib/thaw/images/{image}/memory"],
                              check=True)
        self.assertEqual(answer["digest"], sealed.out.split()[0])

    def touches(self, name):
        return self.api(name, "GET", "/standin/report")[1]["guest"]["touches"]

    def test_comes_when_it_is_needed_and_once_for_all(self):
        self.add()
        self.profile("a", guest={"check": False})
        mapped = self.restore("a", "far", backend="file")
        self.assertFalse(mapped.ok)
        self.assertIn("somewhere else", mapped.err)
        self.assertTrue(self.restore("a", "far", backend="auto").ok)
        # What the VMM reads of it to come up is not all of it.
        early = self.cache("BytesFetched")
        self.assertGreater(early, 0)
        self.assertLess(early, 96 * MIB)
        self.assertFalse(self.lab.exists("/var/lib/thaw/images/far/memory"))
        self.assert_right("a")
        fetched = self.cache("BytesFetched")
        self.assertLessEqual(fetched, 96 * MIB)
        self.assertEqual(self.cache("MemoryUsed"), fetched)
        for name in ("b", "c"):
            self.assertTrue(self.restore(name, "far").ok)
            self.assert_right(name)
        self.assertEqual(self.cache("BytesFetched"), fetched, "fetched again")
        self.assertGreater(self.cache("Hits") + self.cache("Misses"), 0)
        status = self.lab.run(["thawctl", "status"], check=True).out
        self.assertIn("1 remote image", status)
        metrics = self.lab.run(["thawctl", "metrics"], check=True).out
        self.assertIn(f"thaw_cache_fetched_bytes_total {fetched}\n", metrics)
        self.assertIn("thaw_cache_failures_total 0\n", metrics)

    def test_broker_fetcher_and_worker_are_killed_meanwhile(self):
        self.add(f"{URL}/slow/small")
        self.profile("a", guest={"check": False})
        self.assertTrue(self.restore("a", "far").ok)
        self.start_guest("a", pattern="random", vcpus=2, write_percent=0, check=False)
        for _ in range(2):
            for victim in (FETCHER, BROKER):
                before = self.touches("a")
                pid = wait_for(lambda v=victim: main_pid(self.lab, v), 20, victim)
                self.kill(pid)
                wait_for(lambda b=before: self.touches("a") > b + 5, 30, "the guest's progress")
            self.kill(self.session_property("a", "WorkerPID"))
        self.assertTrue(self.lab.run(["systemctl", "is-active", self.unit("a")]).ok)
        self.start_guest("a", stop=True)
        self.assert_right("a")

    def test_a_restart_of_the_broker_keeps_what_was_fetched(self):
        self.add()
        self.profile("a", guest={"check": False})
        self.assertTrue(self.restore("a", "far").ok)
        self.assert_right("a")
        held = self.cache("MemoryUsed")
        self.lab.run(["systemctl", "restart", BROKER], check=True)
        wait_for(lambda: self.session_property("a", "State") in ("serving", "complete"), 10,
                 "the session")
        self.assertEqual(self.cache("MemoryUsed"), held)
        self.assertTrue(self.restore("b", "far").ok)
        self.assert_right("b")
        self.assertEqual(self.cache("BytesFetched"), 0)

    def test_a_server_that_is_gone_is_named_and_others_run_on(self):
        self.add()
        self.profile("a", guest={"check": False})
        self.profile("near", guest={"check": False})
        self.assertTrue(self.restore("a", "far").ok)
        self.assertTrue(self.restore("near", "small").ok)
        stop_web(self.lab)
        try:
            self.start_guest("a", pattern="random", check=False)
            wait_for(lambda: "a" not in self.instances(), 60, "the end of a")
        finally:
            start_web(self.lab)
        entries = journal(self.lab, "THAW_IMAGE=far", "-u", BROKER)
        self.assertTrue([e for e in entries if "SourceUnreachable" in e.get("THAW_ERROR", "")],
                        [e.get("MESSAGE") for e in entries])
        self.assert_logged("a", "cannot be served")
        self.assert_memory_right("near")
        # Nothing has to be restarted.
        self.assertTrue(self.restore("a", "far").ok)
        self.assert_right("a")

    def test_another_object_under_the_name_is_refused(self):
        self.add()
        self.profile("a", guest={"check": False})
        self.lab.run(["cp", "-a", f"{WEB}/www/quick/small/memory", f"{WEB}/kept"], check=True)
        self.lab.run(["touch", f"{WEB}/www/quick/small/memory"], check=True)
        try:
            self.assertFalse(self.restore("a", "far").ok)
        finally:
            self.lab.run(["cp", "-a", f"{WEB}/kept", f"{WEB}/www/quick/small/memory"], check=True)
        entries = journal(self.lab, "THAW_IMAGE=far", "-u", BROKER)
        self.assertIn("org.thaw.pager1.Error.SourceChanged",
                      [e.get("THAW_ERROR") for e in entries])

    def test_a_folder_on_a_slow_file_system(self):
        self.add(f"file://{WEB}/www/quick/small")
        self.profile("a", guest={"check": False})
        self.assertTrue(self.restore("a", "far").ok)
        self.assert_right("a")
        self.assertGreater(self.cache("BytesFetched"), 0)

    def test_a_snapshot_of_it_is_local(self):
        self.add()
        self.profile("a", guest={"check": False})
        self.assertTrue(self.restore("a", "far").ok)
        self.start_guest("a", pattern="random", touches=500, write_percent=50, check=False)
        wait_for(lambda: self.touches("a") >= 500, 60, "the guest's writes")
        done = self.lab.run(["thawctl", "snapshot", "a", "made"], timeout=120)
        self.assertTrue(done.ok, str(done))
        self.addCleanup(self.lab.run, ["thawctl", "image", "rm", "made"])
        self.assertTrue(self.lab.run(["thawctl", "image", "verify", "made"], timeout=60).ok)
        shown = json.loads(self.lab.run(["thawctl", "image", "show", "made", "--json=short"],
                                        check=True).out)
        self.assertNotIn("source", shown)

    def test_pages_of_2_mib(self):
        with hugepages(20) as there:
            if not there:
                self.skipTest("the kernel gave no 2 MiB pages")
            self.make_image("huge", memory_mib=32, page_size=2 * MIB)
            self.addCleanup(self.lab.run, ["thawctl", "image", "rm", "huge"])
            self.lab.run(["thawctl", "image", "push", "huge", f"{URL}/quick/huge"], check=True)
            self.add(f"{URL}/quick/huge")
            self.profile("a", guest={"check": False})
            self.assertTrue(self.restore("a", "far").ok)
            self.assertEqual(self.session_property("a", "PageSize"), 2 * MIB)
            self.assert_right("a", image="huge")
            self.lab.run(["thawctl", "stop", "a"], check=True)

    def test_what_needs_the_memory_here_says_so(self):
        self.add()
        refused = self.lab.run(["thawctl", "image", "record", "far"], timeout=60)
        self.assertFalse(refused.ok)
        self.assertIn("pull it first", refused.err)
        verified = self.lab.run(["thawctl", "image", "verify", "far"])
        self.assertFalse(verified.ok)
