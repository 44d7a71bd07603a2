# SPDX-License-Identifier: MIT
"""A control group for one lab, and the process that removes it whatever happens."""

import os
import secrets
import subprocess

_JANITOR = r"""
trap '' INT TERM HUP
cat >/dev/null
group=$1
scratch=$2
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -d "$group" ] || break
    echo 1 >"$group/cgroup.kill" 2>/dev/null
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d "$group" ] || break
    sleep 0.05
done
rm -rf --one-file-system "$scratch"
[ ! -d "$group" ]
"""


def cgroup2_mount():
    """The folder where the unified hierarchy is mounted: all of it, or beside v1."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[2] == "cgroup2" and "rw" in fields[3].split(","):
                return fields[1]
    raise RuntimeError("no writable cgroup2 file system is mounted; the lab needs one "
                       "(mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified)")


class LabCgroup:
    """Folders `payload` (the container's root) and `supervisor` below one of our own.

    The janitor reads a pipe that only this process can write to. Its end of file, by close() or
    by the death of this process, makes it kill what is left in the group and remove everything.
    """

    def __init__(self, scratch):
        name = f"thaw-lab-{os.getpid()}-{secrets.token_hex(3)}"
        self.path = os.path.join(cgroup2_mount(), name)
        self.payload = os.path.join(self.path, "payload")
        self.supervisor = os.path.join(self.path, "supervisor")
        os.mkdir(self.path)
        # pylint: disable-next=consider-using-with
        self._janitor = subprocess.Popen(
            ["/bin/sh", "-c", _JANITOR, "thaw-lab-janitor", self.path, scratch],
            stdin=subprocess.PIPE, start_new_session=True)
        os.mkdir(self.payload)
        os.mkdir(self.supervisor)
        self._enable_controllers()

    def _enable_controllers(self):
        with open(os.path.join(self.path, "cgroup.controllers"), encoding="ascii") as file:
            controllers = file.read().split()
        for controller in controllers:
            try:
                with open(os.path.join(self.path, "cgroup.subtree_control"), "w",
                          encoding="ascii") as file:
                    file.write(f"+{controller}")
            except OSError:
                pass  # limits of units have no effect then; no test may depend on them

    def add(self, pid, leaf):
        """Move a process of the host's numbering into `payload/LEAF` or `supervisor`."""
        directory = self.supervisor if leaf is None else os.path.join(self.payload, leaf)
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(pid))

    def close(self):
        """Kill what is left, remove the group and the scratch folder. Returns True if all went."""
        if self._janitor is None:
            return True
        self._janitor.stdin.close()
        clean = self._janitor.wait() == 0
        self._janitor = None
        return clean
