# SPDX-License-Identifier: MIT
"""Root file systems on a web server: an overlay reads through the cache, like the VM's memory."""

from thawlab import busctl, journal, main_pid, unit_state, wait_for
from thawlab.vms import PAGER, VmTestCase
from thawlab.web import URL, WEB, prepare_web, start_web, stop_web

BROKER = "thaw-pagerd.service"
FETCHER = "thaw-fetchd.service"
ROOTFS = "/srv/rootfs.raw"
SIZE = 48 << 20
DATA = 32 << 20  # the rest are zeros


class RemoteRootfs(VmTestCase):
    IMAGES = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.run(["sh", "-c", f"head -c {DATA} /dev/urandom >{ROOTFS} && "
                     f"truncate -s {SIZE} {ROOTFS} && cp {ROOTFS} {ROOTFS}.copy"], check=True)
        cls.make_image("small", memory_mib=16, import_options=(f"--rootfs={ROOTFS}.copy",))
        prepare_web(cls.lab)
        cls.lab.run(["thawctl", "image", "push", "small", f"{URL}/quick/small"], check=True)

    def setUp(self):
        super().setUp()
        # What an earlier test left in the cache is of no use here.
        self.lab.run(["systemctl", "stop", BROKER], check=True)
        self.lab.run(["systemctl", "reset-failed", BROKER, "thaw-pagerd.socket"])
        self.lab.run(["systemctl", "start", "thaw-pagerd.socket", BROKER], check=True)
        self.lab.run(["thawctl", "image", "add-remote", "far", f"{URL}/quick/small"], check=True,
                     timeout=60)

    def tearDown(self):
        super().tearDown()
        self.lab.run(["thawctl", "image", "rm", "far"])

    def restore_far(self, name, *options):
        done = self.restore(name, "far", "--rootfs=rootfs", *options, backend="uffd")
        self.assertTrue(done.ok, str(done))

    def nbd(self, name):
        return f"nbd+unix:///?socket=/run/thaw/rootfs/{name}/nbd.sock"

    def io(self, name, *commands):
        words = [word for command in commands for word in ("-c", command)]
        return self.lab.run(["qemu-io", "-f", "raw", *words, self.nbd(name)], timeout=120)

    def assert_as_sealed(self, name):
        same = self.lab.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", ROOTFS,
                             self.nbd(name)], timeout=120)
        self.assertTrue(same.ok, str(same))

    def cache(self, name):
        _, value = busctl(self.lab, "get-property", *PAGER[:2], "org.thaw.pager1.Cache", name)
        return value

    def served(self):
        _, data = busctl(self.lab, "call", *PAGER, "ListRootfs")
        return {entry[0]: entry[3] for entry in data[0]}

    def test_two_vms_read_it_and_it_is_fetched_once(self):
        for name in ("a", "b"):
            self.restore_far(name)
        before = self.cache("BytesFetched")
        for name in ("a", "b"):
            self.assert_as_sealed(name)
        # Of the zeros nothing.
        self.assertEqual(self.cache("BytesFetched") - before, DATA)
        self.assertEqual(self.served(), {"a": 1, "b": 1})
        listed = self.lab.run(["thawctl", "rootfs", "list"], check=True).out
        self.assertIn("image far", listed)
        for name in ("a", "b"):
            self.lab.run(["thawctl", "stop", name], check=True)
        self.assertEqual(self.served(), {})
        self.assertFalse(self.lab.exists("/run/thaw/pager/rootfs/a.sock"))

    def test_everybody_may_die_while_it_is_read(self):
        self.lab.run(["thawctl", "image", "rm", "far"], check=True)
        self.lab.run(["thawctl", "image", "add-remote", "far", f"{URL}/slow/small"], check=True,
                     timeout=60)
        self.restore_far("a")
        reading = self.lab.run(["systemd-run", "--unit=reading", "--property=RemainAfterExit=yes",
                                "qemu-img", "compare", "-f", "raw", "-F", "raw", ROOTFS,
                                self.nbd("a")])
        self.assertTrue(reading.ok, str(reading))
        for victim in (BROKER, FETCHER, BROKER):
            before = self.cache("MemoryUsed")
            wait_for(lambda b=before: self.cache("MemoryUsed") > b, 30, "something that came")
            pid = wait_for(lambda v=victim: main_pid(self.lab, v), 20, victim)
            self.lab.run(["kill", "-KILL", str(pid)], check=True)
            wait_for(lambda: self.lab.run(["busctl", "status", "org.thaw.pager1"]).ok, 20, BROKER)
        wait_for(lambda: self.lab.run(["systemctl", "show", "-PSubState", "reading"]).out.strip()
                 in ("exited", "failed"), 60, "the reader")
        self.assertEqual(unit_state(self.lab, "reading.service"), "active")
        self.lab.run(["systemctl", "stop", "reading.service"])
        self.assertEqual(self.served(), {"a": 1})

    def test_a_server_that_is_gone_is_an_error_for_the_guest_and_passes(self):
        self.restore_far("a")
        self.assertTrue(self.io("a", "read 0 4k").ok)
        stop_web(self.lab)
        try:
            read = self.io("a", "read 16M 4k")
            self.assertIn("Input/output error", read.out + read.err)
        finally:
            start_web(self.lab)
        entries = journal(self.lab, "THAW_IMAGE=far", "-u", BROKER)
        self.assertTrue([e for e in entries if "SourceUnreachable" in e.get("THAW_ERROR", "")],
                        [e.get("MESSAGE") for e in entries])
        self.assert_logged("a", "of the base cannot be had")
        self.assertTrue(self.io("a", "read 0 4k").ok)
        self.assert_as_sealed("a")  # nothing has to be restarted

    def test_what_is_not_what_was_sealed_is_never_served(self):
        file = f"{WEB}/www/quick/small/rootfs"
        self.restore_far("a")
        # Same length, same date: only the checksums tell.
        self.lab.run(["sh", "-c", f"touch -r {file} /run/date && cp -a {file} /run/kept && "
                      f"printf x | dd of={file} bs=1 seek=20971520 conv=notrunc && "
                      f"touch -r /run/date {file}"], check=True)
        try:
            read = self.io("a", "read 20M 4k")
            self.assertIn("Input/output error", read.out + read.err)
            self.assertTrue(self.io("a", "read 0 4k").ok)
        finally:
            self.lab.run(["cp", "-a", "/run/kept", file], check=True)
        self.assert_as_sealed("a")

    def test_what_changed_is_exported_over_the_base_of_the_image(self):
        self.restore_far("a")
        self.assertTrue(self.io("a", "write -P 0x5a 1M 64k", "flush").ok)
        self.lab.run(["thawctl", "rootfs", "export", "a", "/run/changes"], check=True)
        applied = self.lab.run(["thawctl", "rootfs", "import", "/run/changes", "/run/disk",
                                f"--base={ROOTFS}"])
        self.assertTrue(applied.ok, str(applied))
        same = self.lab.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", "/run/disk",
                             self.nbd("a")], timeout=120)
        self.assertTrue(same.ok, str(same))

    def test_a_durable_one_is_there_again_after_a_restart_of_all(self):
        self.restore_far("a", "--rootfs-durable")
        self.assertTrue(self.io("a", "write -P 0x33 8M 64k", "flush").ok)
        self.lab.run(["thawctl", "stop", "a"], check=True)
        self.lab.run(["systemctl", "restart", BROKER], check=True)
        self.restore_far("a", "--rootfs-durable")
        self.assertTrue(self.io("a", "read -P 0x33 8M 64k").ok)
        self.addCleanup(self.lab.run, ["rm", "-rf", "/var/lib/thaw/rootfs/a",
                                       "/var/lib/private/thaw/rootfs/a"])

    def test_a_restore_that_fails_leaves_nothing_at_the_pager(self):
        self.profile("bad", load_error="no")
        done = self.restore("bad", "far", "--rootfs=rootfs", backend="uffd")
        self.assertFalse(done.ok)
        self.assertEqual(self.served(), {})
        self.assertEqual(unit_state(self.lab, "thaw-rootfs@bad.service"), "inactive")
        self.assertFalse(self.lab.exists("/run/thaw/pager/rootfs/bad.sock"))

    def test_a_pulled_image_needs_no_pager_for_it(self):
        self.lab.run(["thawctl", "image", "pull", "far"], check=True, timeout=60)
        self.restore_far("a")
        self.assertEqual(self.served(), {})
        self.assert_as_sealed("a")
