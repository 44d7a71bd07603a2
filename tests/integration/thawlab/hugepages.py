# SPDX-License-Identifier: MIT
"""The machine's pool of 2 MiB pages: raised under a lock, put back afterwards, also when this is
killed."""

import contextlib
import fcntl
import subprocess

_POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
_LOCK = "/run/lock/thaw-hugepages.lock"


def _read():
    with open(_POOL, encoding="ascii") as file:
        return int(file.read())


def _write(count):
    with open(_POOL, "w", encoding="ascii") as file:
        file.write(str(count))


@contextlib.contextmanager
def hugepages(count):
    """Have `count` 2 MiB pages more than now; yields False where the kernel did not give them."""
    with open(_LOCK, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            before = _read()
        except FileNotFoundError:
            yield False
            return
        # It shares the lock and waits for the end of its input.
        guard = subprocess.Popen(  # pylint: disable=consider-using-with
            ["sh", "-c", f"trap '' INT TERM; cat >/dev/null; echo {before} >{_POOL}"],
            stdin=subprocess.PIPE, start_new_session=True, pass_fds=(lock.fileno(),))
        try:
            _write(before + count)
            yield _read() >= before + count
        finally:
            guard.stdin.close()
            guard.wait()
