# SPDX-License-Identifier: MIT
"""The guest without a guest against virtiofsd started by hand: what the scenarios of the supervisor
rely on, and what each dialect does at the wall."""

import subprocess
import unittest

from thawlab import LabTestCase, wait_for
from thawlab import virtiofs
from thawlab.virtiofs import Guest, GuestError, each_dialect

SOCKET = "/run/by-hand.sock"


class ByHand(LabTestCase):
    """Every test runs once per dialect."""

    FILES = 40

    @classmethod
    def setUpClass(cls):
        folder = virtiofs.fetch()
        cls.dialects = virtiofs.available(folder)
        cls.MOUNTS = (virtiofs.mount(folder),)
        super().setUpClass()
        # /run is a tmpfs, which gives file handles; the overlay of the root does not.
        cls.lab.run(["mkdir", "-p", "/run/source"], check=True)
        cls.nodes = virtiofs.make_tree(cls.lab, "/run/source", 25, cls.FILES)

    def start(self, dialect, *options, limit=None):
        """A daemon by hand; its process."""
        self.lab.run(["rm", "-f", SOCKET])
        program = virtiofs.daemon(dialect)
        if dialect == "c":
            command = [program, f"--socket-path={SOCKET}", "-o", "source=/run/source", "-o",
                       "cache=auto"]
        else:
            command = [program, "--socket-path", SOCKET, "--shared-dir", "/run/source",
                       "--sandbox", "none"]
        if limit:
            command.append(f"--rlimit-nofile={limit}")
        process = self.lab.popen([*command, *options], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.kill)
        wait_for(lambda: self.lab.exists(SOCKET), 10, "the socket")
        return process

    @each_dialect
    def test_files_are_served(self, dialect):
        self.start(dialect)
        with Guest(self.lab, SOCKET) as guest:
            guest.create(path=f"d0/{dialect}", data="from the guest")
            guest.rename(**{"from": f"d0/{dialect}", "to": f"d1/{dialect}"})
            self.assertEqual(guest.read(path=f"d1/{dialect}")["data"], "from the guest")
            on_host = self.lab.run(["cat", f"/run/source/d1/{dialect}"], check=True).out
            self.assertEqual(on_host, "from the guest")
            guest.change(path=f"d1/{dialect}", size=4)
            self.assertEqual(guest.look(path=f"d1/{dialect}")["size"], 4)
            names = guest.list(path="d1", plus=True)["names"]
            self.assertEqual(len(names), self.FILES + 1)
            guest.remove(path=f"d1/{dialect}")
            with self.assertRaises(GuestError) as refused:
                guest.look(path=f"d1/{dialect}")
            self.assertEqual(refused.exception.errno, "ENOENT")
            self.assertGreater(guest.statfs()["blocks"], 0)

    @each_dialect
    def test_nodes_hold_descriptors_until_they_are_forgotten(self, dialect):
        options = [] if dialect == "c" else ["--inode-file-handles=never"]
        self.start(dialect, *options)
        with Guest(self.lab, SOCKET) as guest:
            pid = self.daemon_pid()
            idle = virtiofs.count_descriptors(self.lab, pid)
            walk = guest.walk()
            self.assertEqual((walk["nodes"], walk["errors"]), (self.nodes, {}))
            full = virtiofs.count_descriptors(self.lab, pid)
            self.assertGreaterEqual(full, idle + self.nodes)
            self.assertLess(full, idle + self.nodes + 20)
            self.assertEqual(guest.forget()["nodes"], self.nodes)
            self.assertLess(virtiofs.count_descriptors(self.lab, pid), idle + 10)

    @each_dialect
    def test_with_file_handles_the_count_stays_flat(self, dialect):
        if dialect == "c":
            return  # has none
        self.start(dialect, "--inode-file-handles=mandatory")
        with Guest(self.lab, SOCKET) as guest:
            self.assertEqual(guest.walk(open=True)["nodes"], self.nodes)
            self.assertLess(virtiofs.count_descriptors(self.lab, self.daemon_pid()), 64)

    @each_dialect
    def test_the_wall(self, dialect):
        options = [] if dialect == "c" else ["--inode-file-handles=never"]
        self.start(dialect, *options, limit=1024)
        with Guest(self.lab, SOCKET) as guest:
            walk = guest.walk()
            error = "EMFILE" if dialect == "c" else "ENFILE"
            self.assertGreater(walk["errors"].get(error, 0), 0, walk)
            # Rust keeps 610 of the limit for itself.
            budget = range(950, 1024) if dialect == "c" else range(400, 415)
            self.assertIn(walk["nodes"], budget)
            guest.forget()
            self.assertEqual(guest.read(path="d0/f0")["data"], "hi\n")

    @each_dialect
    def test_what_is_no_message_ends_the_daemon(self, dialect):
        process = self.start(dialect)
        guest = Guest(self.lab, SOCKET)
        guest.garbage()
        self.assertEqual(process.wait(10), 1 if dialect == "c" else 0)
        with self.assertRaises(GuestError) as refused:
            guest.look(path="d0")
        self.assertTrue(refused.exception.gone)
        guest.close()

    def daemon_pid(self):
        """The process that serves; the C daemon's sandbox forks it."""
        # Each subtest leaves its daemon to the clean-up: the newest one is ours.
        found = self.lab.run(["pgrep", "-n", "-f", f"virtiofsd.*{SOCKET}"], check=True)
        return int(found.out)


if __name__ == "__main__":
    unittest.main()
