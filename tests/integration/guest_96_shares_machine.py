# SPDX-License-Identifier: MIT
"""The supervisor on a machine that has what the test machines lack: CAP_SYS_RESOURCE, limits above
20000, all controllers. User-mode Linux boots the lab's own root with its systemd."""

import json
import unittest

from thawlab import uml
from thawlab.sharing import ShareTestCase

CLIENT = "/opt/thaw-tests/thaw-fuse-client"


class MachineTestCase(ShareTestCase):
    """A kernel, and a script that runs beside the supervisor."""

    KERNEL = "sid"
    CONFIG = ""  # the default limit

    @classmethod
    def setUpClass(cls):
        cls.guest_folder = uml.fetch(cls.KERNEL)
        super().setUpClass()

    @classmethod
    def extra_mounts(cls):
        return (uml.mount(cls.guest_folder),)

    def system(self, script):
        status, out = uml.run_system(self.lab, "set -e\n" + script)
        self.assertEqual(status, 0, out)
        return out


class FullLimit(MachineTestCase):
    """524288 descriptors for real, limits that are raised live, and a memory controller."""

    def test_the_default_limit(self):
        out = self.system(
            "ulimit -Hn\n"
            "mkdir -p /run/data/src && echo hello >/run/data/src/file\n"
            "socket=$(thawctl share open /run/data/src src --json=off)\n"
            "thawctl share status extern src --json=short\n"
            "pid=$(systemctl show -P MainPID 'thaw-virtiofsd@extern:src.service')\n"
            "grep 'Max open files' /proc/$pid/limits\n"
            f"printf '%s\\n' '{{\"op\":\"read\",\"path\":\"file\"}}' | {CLIENT} $socket\n"
            "journalctl -q -p warning -u thaw-sharesd.service -o cat\n")
        share = json.loads(next(line for line in out.splitlines() if line.startswith("[{")))[0]
        self.assertEqual((share["LimitNOFILE"], share["EffectiveLimit"], share["Degraded"]),
                         (524288, 524288, False), out)
        self.assertGreater(share["DescriptorBudget"], 523000)
        self.assertRegex(out, r"Max open files +524288 +524288 ")
        self.assertIn("hello", out)
        self.assertNotIn("instead of", out)

    def test_a_limit_that_rises_live_and_a_daemon_without_memory(self):
        unit = "thaw-virtiofsd@extern:src.service"
        out = self.system(
            "mkdir -p /run/data/src\n"
            "thawctl share open /run/data/src src --limit=16384 >/dev/null\n"
            "thawctl share raise-limit extern src 400000\n"
            f"pid=$(systemctl show -P MainPID '{unit}')\n"
            "grep 'Max open files' /proc/$pid/limits\n"
            "thawctl share status extern src --json=short\n"
            f"systemctl set-property --runtime '{unit}' MemoryMax=1M\n"
            "for i in $(seq 100); do\n"
            "    thawctl share list --no-legend | grep -q failed && break; sleep 0.1\n"
            "done\n"
            "thawctl share status extern src --json=short\n")
        self.assertRegex(out, r"Max open files +400000 +(400000|524288) ")
        raised, killed = (json.loads(line)[0] for line in out.splitlines()
                          if line.startswith("[{"))
        self.assertEqual(raised["EffectiveLimit"], 400000)
        self.assertEqual((killed["State"], killed["Result"], killed["ErrorName"]),
                         ("failed", "oom-kill", "org.thaw.shares1.Error.OutOfMemory"), out)


class OldKernel(MachineTestCase):
    """Linux 6.1 of Debian 12, where descriptors are counted by walking."""

    KERNEL = "bookworm"

    def test_counting_by_a_walk(self):
        walk = '{"op":"walk"}'
        out = self.system(
            "uname -r\n"
            "busctl get-property org.thaw.shares1 /org/thaw/shares1 org.thaw.shares1.Manager "
            "CountMethod\n"
            "for d in $(seq 10); do\n"
            "    mkdir -p /run/data/src/$d && (cd /run/data/src/$d && seq 99 | xargs touch)\n"
            "done\n"
            "socket=$(thawctl share open /run/data/src src --file-handles=never --limit=2048)\n"
            f"(printf '%s\\n' '{walk}'; sleep 6) | {CLIENT} $socket &\n"
            "sleep 4\n"
            "thawctl share status extern src --json=short\n"
            "journalctl -q -u thaw-sharesd.service -o cat | grep 'descriptors '\n"
            "wait\n")
        self.assertRegex(out, r"(?m)^6\.1\.")
        self.assertIn('s "walk"', out)
        share = json.loads(next(line for line in out.splitlines() if line.startswith("[{")))[0]
        # 10 folders and 990 files; what the daemon has open for itself is known but for a few.
        self.assertGreaterEqual(share["Descriptors"], 980)
        self.assertLess(share["Descriptors"], 1020)
        self.assertEqual(share["DescriptorLevel"], "elevated")
        self.assertIn("descriptors normal -> elevated", out)


if __name__ == "__main__":
    unittest.main()
