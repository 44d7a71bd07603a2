# SPDX-License-Identifier: MIT
"""What the tests look at in a container: units, the bus, the journal, processes."""

import json
import time


def wait_for(condition, timeout=10.0, what="the condition", interval=0.02):
    """Call `condition` until it returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} did not come true within {timeout:g} s")
        time.sleep(interval)


def escape(lab, name):
    """systemd-escape NAME."""
    return lab.run(["systemd-escape", "--", name], check=True).out.strip()


def vm_unit(lab, name):
    return f"thaw-firecracker@{escape(lab, name)}.service"


def unit(lab, name, *properties):
    """Properties of a unit as a dict of strings."""
    result = lab.run(["systemctl", "show", name, "--property=" + ",".join(properties)],
                     check=True)
    return dict(line.split("=", 1) for line in result.out.splitlines() if "=" in line)


def unit_state(lab, name):
    return unit(lab, name, "ActiveState")["ActiveState"]


def main_pid(lab, name):
    return int(unit(lab, name, "MainPID")["MainPID"])


def journal(lab, *matches):
    """Entries of the journal as dicts, oldest first; matches as for journalctl."""
    lab.run(["journalctl", "--sync"])
    result = lab.run(["journalctl", "--no-pager", "-o", "json", "--all", *matches])
    return [json.loads(line) for line in result.out.splitlines() if line.startswith("{")]


def busctl(lab, *arguments, user=None, timeout=60.0):
    """busctl --json=short ARGUMENTS; (Result, the reply's data or None)."""
    result = lab.run(["busctl", "--json=short", *arguments], user=user, timeout=timeout)
    data = None
    if result.ok and result.out.strip():
        data = json.loads(result.out).get("data")
    return result, data


def processes(lab):
    """{pid: command line} of every process in the container, ours among them."""
    result = lab.run(["ps", "-eo", "pid=,args="], check=True)
    table = {}
    for line in result.out.splitlines():
        pid, _, command = line.strip().partition(" ")
        table[int(pid)] = command
    return table
