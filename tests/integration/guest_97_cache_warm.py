# SPDX-License-Identifier: MIT
"""thawctl cache warm over a real ssh: every login shell, a guest of busybox, and what goes wrong."""

import json
import os
import shutil
import subprocess
import unittest

from thawlab import LabTestCase, uml, wait_for

SHELLS = {"posix": "/bin/sh", "bash": "/bin/bash", "zsh": "/usr/bin/zsh", "fish": "/usr/bin/fish"}
SOURCE = "/srv/cache"
# The guest that is not this file system: busybox and nothing else.
GUEST = "/srv/guest"
EVIL = "a'b\"c $(touch pwned) `touch pwned`;touch pwned & %s \\n * !! {x,y}"

SSHD = """
HostKey /etc/ssh/lab_key
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PrintMotd yes
AuthorizedKeysFile /etc/ssh/authorized_keys
Match User busybox
    ChrootDirectory /srv/guest
"""
CONFIG = """
Host *
    StrictHostKeyChecking accept-new
    IdentityFile /root/.ssh/lab
Host web
    HostName 127.0.0.1
"""


@unittest.skipUnless(shutil.which("sshd", path="/usr/sbin"), "no sshd")
class CacheWarm(LabTestCase):
    """The guests are users of the container: each has another login shell, one has a root of its own."""

    @classmethod
    def setUpClass(cls):
        folder = uml.fetch()  # for its busybox
        cls.MOUNTS = (uml.mount(folder),)
        super().setUpClass()
        users = "".join(f"useradd -p '*' -o -u 0 -g 0 -d /root -s {shell} {name};"
                        for name, shell in (*SHELLS.items(), ("busybox", "/bin/sh")))
        cls.lab.run(["bash", "-ec", f"""
            {users}
            mkdir -p -m 700 /root/.ssh /run/sshd {GUEST}/{{bin,dev,root,srv,tmp}} {SOURCE}/deep/er
            chmod 755 {GUEST}
            mknod -m 666 {GUEST}/dev/null c 1 3
            cp {uml.GUEST}/root/bin/busybox {GUEST}/bin/
            for tool in sh tar mkdir rm mv ls sync; do ln {GUEST}/bin/busybox {GUEST}/bin/$tool; done
            ssh-keygen -q -N '' -t ed25519 -f /etc/ssh/lab_key
            ssh-keygen -q -N '' -t ed25519 -f /root/.ssh/lab
            cp /root/.ssh/lab.pub /etc/ssh/authorized_keys
            echo 'Welcome to the guest' >/etc/motd
            echo 'echo a profile that talks' >>/root/.profile
            seq 1000 >{SOURCE}/deep/er/numbers
            head -c 3000000 /dev/urandom >{SOURCE}/deep/large
            ln -s deep/large {SOURCE}/link; ln {SOURCE}/deep/large {SOURCE}/again
        """], check=True)
        cls.lab.write(f"{SOURCE}/{EVIL}", "kept")
        cls.lab.write("/etc/ssh/lab_sshd", SSHD)
        cls.lab.write("/root/.ssh/config", CONFIG, 0o600)
        cls.start_sshd()

    @classmethod
    def start_sshd(cls):
        cls.lab.run(["systemd-run", "-q", "--unit=guest-sshd", "/usr/sbin/sshd", "-D", "-e", "-f",
                     "/etc/ssh/lab_sshd"], check=True)
        wait_for(lambda: cls.lab.run(["ssh", "-o", "BatchMode=yes", "root@web", "true"]).ok, 10,
                 "sshd")

    def warm(self, destination, *options, user="root", source=SOURCE, timeout=60.0):
        """Over the transport that is the default, with another user if need be."""
        with_user = [] if user == "root" else [
            "--transport", f"ssh -o BatchMode=yes -o ConnectTimeout=10 {user}@%v"]
        return self.lab.run(["thawctl", "cache", "warm", "web", source, destination, *with_user,
                             *options], timeout=timeout)

    def assert_same(self, destination, root=""):
        """All of the source is there, and the sentinel."""
        differs = self.lab.run(["diff", "-r", "--no-dereference", "-x", ".thaw-warmed", SOURCE,
                                root + destination])
        self.assertTrue(differs.ok, str(differs))
        self.assertTrue(self.lab.exists(f"{root}{destination}/.thaw-warmed"))
        self.assert_no_parts(root + destination)

    def assert_no_parts(self, destination):
        parent = os.path.dirname(destination)
        names = self.lab.run(["ls", "-A", parent]).out
        self.assertNotIn(".thaw-partial", names)
        self.assertNotIn(".thaw-old", names)

    def test_once_and_again_by_the_usual_transport(self):
        first = self.warm("/srv/once/cache")
        self.assertTrue(first.ok, str(first))
        self.assertIn("Copied ", first.out)
        self.assert_same("/srv/once/cache")
        again = self.warm("/srv/once/cache", "--json=short")
        self.assertEqual(json.loads(again.out)["result"], "present")
        self.lab.run(["sh", "-c", "echo stale >/srv/once/cache/stale"], check=True)
        fresh = self.warm("/srv/once/cache", "--refresh", "--json=short")
        self.assertEqual(json.loads(fresh.out)["result"], "refreshed")
        self.assert_same("/srv/once/cache")

    def test_no_login_shell_reads_what_is_not_for_it(self):
        for user in SHELLS:
            if not self.lab.exists(SHELLS[user]):
                continue
            with self.subTest(shell=SHELLS[user]):
                destination = f"/srv/{user}/{EVIL.replace('/', '')}"
                done = self.warm(destination, user=user)
                self.assertTrue(done.ok, str(done))
                self.assert_same(destination)
                self.assertTrue(self.warm(destination, "--refresh", user=user).ok)
                self.assert_same(destination)
        found = self.lab.run(["find", "/srv", "/root", "/tmp", "/pwned", "-name", "pwned*"]).out
        self.assertEqual(found, "")

    def test_a_guest_of_busybox(self):
        destination = f"/srv/{EVIL}/cache"
        done = self.warm(destination, user="busybox")
        self.assertTrue(done.ok, str(done))
        self.assert_same(destination, GUEST)
        self.assertFalse(self.lab.exists(destination))
        again = self.warm(destination, "--json=short", user="busybox")
        self.assertEqual(json.loads(again.out)["result"], "present")
        self.assertTrue(self.warm(destination, "--refresh", user="busybox").ok)
        self.assert_same(destination, GUEST)
        self.assertFalse(self.lab.exists(f"{GUEST}/pwned"))

    def test_each_failure_has_its_own_answer(self):
        missing = self.warm("/srv/never", source="/srv/missing")
        self.assertEqual(missing.rc, 3, str(missing))
        self.assertIn("source", missing.err)
        nobody = self.warm("/srv/never", user="unknown")
        self.assertEqual(nobody.rc, 5, str(nobody))
        self.assertIn("cannot be reached", nobody.err)
        nowhere = self.lab.run(["thawctl", "cache", "warm", "other", SOURCE, "/srv/never"])
        self.assertEqual(nowhere.rc, 5, str(nowhere))
        self.assertIn("exit status 255", nowhere.err)
        self.lab.run(["systemctl", "stop", "guest-sshd"], check=True)
        try:
            refused = self.warm("/srv/never")
        finally:
            self.start_sshd()
        self.assertEqual(refused.rc, 5, str(refused))
        self.assertIn("cannot be reached", refused.err)
        self.assertFalse(self.lab.exists("/srv/never"))
        self.lab.run(["mkdir", "-p", "/srv/theirs/file"], check=True)
        theirs = self.warm("/srv/theirs")
        self.assertEqual(theirs.rc, 1, str(theirs))
        self.assertIn("no earlier run made", theirs.err)

    def test_a_guest_without_room(self):
        self.lab.run(["sh", "-c", "mkdir -p /srv/small && mount -t tmpfs -o size=1M none /srv/small"],
                     check=True)
        self.addCleanup(self.lab.run, ["umount", "/srv/small"])
        full = self.warm("/srv/small/cache")
        self.assertEqual(full.rc, 1, str(full))
        self.assertIn("tar ended", full.err)
        self.assertEqual(self.lab.run(["ls", "-A", "/srv/small"]).out, "")

    def start_large(self, destination, *options):
        """A copy that lasts long enough to be disturbed; its process, once a part has arrived."""
        self.lab.run(["sh", "-c", "mkdir -p /run/large && [ -e /run/large/file ] || "
                      "head -c 400000000 /dev/zero >/run/large/file"], check=True)
        process = self.lab.popen(["thawctl", "cache", "warm", "web", "/run/large", destination,
                                  *options], stderr=subprocess.DEVNULL)
        wait_for(lambda: self.lab.run(["sh", "-c", f"find {destination}.thaw-partial.* -size +1M"]
                                      ).out, 20, "a part of it")
        return process

    def test_a_connection_that_breaks(self):
        process = self.start_large("/run/broken/cache")
        self.lab.run(["pkill", "-KILL", "-f", "^sshd: root@notty"], check=True)
        self.assertEqual(process.wait(30), 5)
        self.assertFalse(self.lab.exists("/run/broken/cache"))
        # The guest's shell sees the end of the stream and cleans up.
        wait_for(lambda: self.lab.run(["ls", "-A", "/run/broken"]).out == "", 10, "the clean-up")

    def test_a_refresh_that_breaks_keeps_what_was_there(self):
        self.assertTrue(self.warm("/run/kept/cache").ok)
        process = self.start_large("/run/kept/cache", "--refresh")
        self.lab.run(["pkill", "-KILL", "-f", "^sshd: root@notty"], check=True)
        self.assertEqual(process.wait(30), 5)
        self.assert_same("/run/kept/cache")

    def test_the_guest_dies_with_it_and_comes_back(self):
        process = self.start_large("/run/died/cache")
        # Both ends at once, without a word: nobody cleans up. Stopped first, as one would still see
        # the end of the other.
        for signal in ("-STOP", "-KILL"):
            self.lab.run(["pkill", signal, "-f", "thaw-cache: "], check=True)
        self.assertNotEqual(process.wait(30), 0)
        self.assertFalse(self.lab.exists("/run/died/cache"))
        self.assertIn(".thaw-partial", self.lab.run(["ls", "-A", "/run/died"]).out)
        done = self.warm("/run/died/cache")
        self.assertTrue(done.ok, str(done))
        self.assert_same("/run/died/cache")


if __name__ == "__main__":
    unittest.main()
