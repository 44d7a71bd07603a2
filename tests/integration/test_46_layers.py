# SPDX-License-Identifier: MIT
"""Images that are differences to another one: restored through the pager, byte by byte, while
workers and brokers die."""

import json
import os

from thawlab import main_pid, wait_for
from thawlab.vms import STANDIN, VmTestCase

IMAGES = "/var/lib/thaw/images"
PAGE = 4096


def changed_pages(before, after):
    """Pages that differ between two files of the host, as a bitmap in whole 8 bytes."""
    with open(before, "rb") as old, open(after, "rb") as new:
        pages = os.fstat(new.fileno()).st_size // PAGE
        bitmap = bytearray((pages + 63) // 64 * 8)
        for page in range(pages):
            if old.read(PAGE) != new.read(PAGE):
                bitmap[page // 8] |= 1 << page % 8
    return bytes(bitmap)


class Layers(VmTestCase):
    IMAGES = {"small": {"memory_mib": 64, "zero_percent": 20}}

    def setUp(self):
        super().setUp()
        self._images = []

    def tearDown(self):
        super().tearDown()
        for image in reversed(self._images):
            self.lab.run(["thawctl", "image", "rm", image])

    def kill(self, *pids):
        self.lab.run(["kill", "-KILL", *[str(p) for p in pids]], check=True)

    def hash_of_file(self, path):
        return self.lab.run([STANDIN, "--hash", path], check=True).out.split()[0]

    def hash_of_vm(self, name):
        status, answer = self.api(name, "PUT", "/standin/hash", {}, timeout=120)
        self.assertEqual(status, 200, answer)
        return answer["digest"]

    def run_and_snapshot(self, name, image, to):
        """A VM of `image` writes and gives memory back; all of it becomes the image `to`."""
        self.profile(name, guest={"check": False})
        self.assertTrue(self.restore(name, image).ok)
        self.start_guest(name, pattern="random", touches=2000, write_percent=40, drop_every=50,
                         check=False, seed=len(self._images) + 1)
        wait_for(lambda: self.api(name, "GET", "/standin/report")[1]["guest"]["touches"] >= 2000, 60,
                 "the guest's writes")
        done = self.lab.run(["thawctl", "snapshot", name, to], timeout=120)
        self.assertTrue(done.ok, str(done))
        self._images.append(to)
        self.lab.run(["thawctl", "stop", name], check=True)

    def make_difference(self, name, base, base_memory, full):
        """`full` again, as a difference to `base`."""
        memory = f"{IMAGES}/{full}/memory"
        pages = changed_pages(self.lab.path(base_memory), self.lab.path(memory))
        self.assertTrue(any(pages))
        with open(self.lab.path("/var/tmp/pages"), "wb") as out:
            out.write(pages)
        done = self.lab.run(["thawctl", "image", "import", name, "--base", base, "--pages",
                             "/var/tmp/pages", "--state", f"{IMAGES}/{full}/vmstate", "--memory",
                             memory])
        self.assertTrue(done.ok, str(done))
        self._images.append(name)
        return sum(byte.bit_count() for byte in pages)

    def chain(self):
        self.run_and_snapshot("one", "small", "full1")
        pages = self.make_difference("diff1", "small", f"{IMAGES}/small/memory", "full1")
        self.run_and_snapshot("two", "full1", "full2")
        self.make_difference("diff2", "diff1", f"{IMAGES}/full1/memory", "full2")
        return pages

    def test_chain_is_restored_while_pagers_die(self):
        pages = self.chain()
        shown = json.loads(self.lab.run(["thawctl", "image", "show", "diff1", "--json=short"],
                                        check=True).out)
        self.assertEqual(shown["own_pages"], pages)
        self.assertEqual([b["name"] for b in shown["bases"]], ["small"])
        self.assertTrue(self.lab.run(["thawctl", "image", "verify", "diff2"]).ok)
        for name, image, full in (("a", "diff1", "full1"), ("b", "diff2", "full2")):
            self.profile(name, guest={"check": False})
            done = self.restore(name, image, backend="auto")
            self.assertTrue(done.ok, str(done))
            self.start_guest(name, pattern="random", touches=3000, write_percent=0, check=False)
            self.kill(self.session_property(name, "WorkerPID"))
            wait_for(lambda n=name: self.session_property(n, "WorkerRestarts") == 1, 10,
                     "the next worker")
            self.kill(main_pid(self.lab, "thaw-pagerd.service"))
            wait_for(lambda n=name: self.session_property(n, "State") == "serving", 10,
                     "the next broker")
            # Both at once: only what PID 1 keeps is left.
            worker = self.session_property(name, "WorkerPID")
            broker = main_pid(self.lab, "thaw-pagerd.service")
            self.kill(worker, broker)
            self.assertEqual(self.hash_of_vm(name), self.hash_of_file(f"{IMAGES}/{full}/memory"))
            self.assert_running(name)

    def test_only_the_pager_loads_a_difference(self):
        self.run_and_snapshot("one", "small", "full1")
        self.make_difference("diff1", "small", f"{IMAGES}/small/memory", "full1")
        done = self.restore("c", "diff1", backend="file")
        self.assertFalse(done.ok)
        self.assertIn("BackendUnsupported", done.err + done.out)
        self.assertIn("difference", done.err + done.out)
        self.assertNotIn("c", self.instances())

    def test_a_base_stays_while_something_lies_over_it(self):
        self.run_and_snapshot("one", "small", "full1")
        self.make_difference("diff1", "small", f"{IMAGES}/small/memory", "full1")
        removed = self.lab.run(["thawctl", "image", "rm", "small", "--force"])
        self.assertFalse(removed.ok)
        self.assertIn("diff1", removed.err)
        self.lab.run(["mv", f"{IMAGES}/small", f"{IMAGES}/aside"], check=True)
        self.addCleanup(self.lab.run, ["mv", f"{IMAGES}/aside", f"{IMAGES}/small"])
        done = self.restore("d", "diff1")
        self.assertFalse(done.ok)
        self.assertIn("ImageMismatch", done.err + done.out)
        self.assertIn("missing", done.err + done.out)
        self.assertIn("missing", self.lab.run(["thawctl", "image", "list"], check=True).out)
