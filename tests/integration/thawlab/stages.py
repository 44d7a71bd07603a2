# SPDX-License-Identifier: MIT
"""Where a restore can be caught: its stages, and what it is kept waiting for in each of them."""

import contextlib
import dataclasses
import os
import signal

from .inside import main_pid, wait_for


@dataclasses.dataclass(frozen=True)
class Stage:
    """`profile`: how the stand-in VMM behaves. `frozen`: who answers nobody meanwhile, from the
    begin on or from when the job is seen in the stage `since`."""
    profile: dict = dataclasses.field(default_factory=dict)
    frozen: str = ""
    since: str = ""


STAGES = {
    "preflight": Stage(frozen="pid1"),        # asked for the unit's state
    "reserving": Stage(frozen="diskguardd"),  # asked for room
    "preparing": Stage(frozen="pagerd"),      # asked for the session
    "starting": Stage({"api_delay_ms": 3000}),
    "loading": Stage({"slow_load_ms": 3000}),
    # The VMM hands its memory over, and nobody takes it.
    "proving": Stage({"api_delay_ms": 1000, "device_touch_pages": 0}, "pagerd", "starting"),
}


@contextlib.contextmanager
def frozen(lab, who):
    """A process that answers nobody meanwhile; it may be killed."""
    # No signal from inside stops a container's PID 1.
    leader = lab.leader if who == "pid1" else None
    pid = None if leader else main_pid(lab, f"thaw-{who}.service")

    def send(name):
        if leader:
            os.kill(leader, getattr(signal, f"SIG{name}"))
            return True
        return lab.run(["kill", f"-{name}", str(pid)]).ok
    if not send("STOP"):
        raise AssertionError(f"{who} is not there to be frozen")
    try:
        yield
    finally:
        send("CONT")


@contextlib.contextmanager
def held_at(test, name, stage):
    """A restore of `name` that stands in that stage; (job id, path). It goes on afterwards."""
    how = STAGES[stage]
    if how.profile:
        test.profile(name, **how.profile)

    def reach(wanted):
        wait_for(lambda: test.job_property(path, "State") == wanted, 10, f"stage {wanted}")
    with contextlib.ExitStack() as held:
        if how.frozen and not how.since:
            held.enter_context(frozen(test.lab, how.frozen))
        job_id, path = test.start_job(name)
        if how.since:
            reach(how.since)
            held.enter_context(frozen(test.lab, how.frozen))
        reach(stage)
        yield job_id, path
