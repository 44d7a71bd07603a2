# SPDX-License-Identifier: MIT
"""A throw-away container with a real systemd, made of the machine's own root.

    with Lab(stage=build.stage(builddir)) as lab:
        result = lab.run(["thawctl", "list"])

Nothing is left afterwards: mounts live in a private namespace, processes in one control group
that a janitor removes even when this process is killed.
"""

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

from .cgroup import LabCgroup

_STAGE1 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stage1.sh")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_TIMEOUT = 30.0


class LabError(Exception):
    """The lab itself failed, as opposed to what runs in it."""


@dataclass
class Result:
    """What a command gave back. `rc` is 124 when it ran into its timeout."""
    argv: list
    rc: int
    out: str
    err: str

    @property
    def ok(self):
        return self.rc == 0

    def __str__(self):
        return f"{' '.join(self.argv)} -> {self.rc}\n{self.out}{self.err}".rstrip()


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host to bind into the container."""
    source: str
    target: str
    read_only: bool = False


def _rest_of(process, expired):
    """Output of a killed command; what it left in the background may hold the pipes open."""
    try:
        return process.communicate(timeout=1.0)
    except subprocess.TimeoutExpired as again:
        for pipe in (process.stdout, process.stderr):
            pipe.close()
        texts = (again.stdout or expired.stdout or b"", again.stderr or expired.stderr or b"")
        return tuple(t if isinstance(t, str) else t.decode(errors="replace") for t in texts)


class Lab:  # pylint: disable=too-many-instance-attributes
    """One container. Make it, write() files that must be there at boot, boot(), run(), close()."""

    def __init__(self, stage=None, mounts=(), name="thaw-lab", scratch_parent=None):
        self.stage = stage
        self.mounts = list(mounts)
        self.name = name
        self.leader = None  # PID of the container's systemd, in the host's numbering
        self._unshare = None
        self._scratch = tempfile.mkdtemp(prefix="thaw-lab-", dir=scratch_parent)
        self._extra = os.path.join(self._scratch, "extra")
        self._console = os.path.join(self._scratch, "console")
        os.mkdir(self._extra)
        os.mkdir(os.path.join(self._scratch, "mnt"))
        self._cgroup = LabCgroup(self._scratch)

    def __enter__(self):
        self.boot()
        return self

    def __exit__(self, *_):
        self.close()

    # ---- life ------------------------------------------------------------------------------------

    def boot(self, timeout=BOOT_TIMEOUT):
        """Boot and wait until systemd has nothing more to do. Failed units are an error."""
        environment = {
            "PATH": _PATH,
            "LAB_SCRATCH": os.path.join(self._scratch, "mnt"),
            "LAB_STAGE": self.stage or "",
            "LAB_EXTRA": self._extra,
            "LAB_MOUNTS": "\n".join(
                f"{os.path.abspath(m.source)}\t{m.target}\t{'ro' if m.read_only else 'rw'}"
                for m in self.mounts),
            "LAB_NAME": self.name,
            "LAB_SYSTEMD": "--unit=multi-user.target",
        }
        # The shell joins the group before anything is made in it; unshare dies with us, and the
        # container's PID 1 with unshare.
        join = 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"'
        command = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", join, "sh", self._cgroup.payload,
                   "unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount",
                   "--propagation", "private", "--uts", "--ipc", "--net", "--cgroup",
                   "/bin/bash", _STAGE1]
        with open(self._console, "wb") as console:
            # pylint: disable-next=consider-using-with
            self._unshare = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                             stdout=console, stderr=console,
                                             start_new_session=True)
        deadline = time.monotonic() + timeout
        self._wait_for_systemd(deadline)
        state = self.run(["systemctl", "is-system-running", "--wait"],
                         timeout=max(1.0, deadline - time.monotonic())).out.strip()
        if state != "running":
            failed = self.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
            jobs = self.run(["systemctl", "list-jobs", "--no-pager"])
            message = (f"the container is '{state}' instead of running\n{failed.out}{jobs.out}"
                       f"{self.journal_text()[-6000:]}")
            self.close()
            raise LabError(message)

    def _wait_for_systemd(self, deadline):
        socket = None
        while time.monotonic() < deadline:
            if self._unshare.poll() is not None:
                break
            if self.leader is None:
                self.leader = self._find_leader()
            elif socket is None:
                socket = f"/proc/{self.leader}/root/run/systemd/private"
            elif os.path.exists(socket) and self._is_systemd():
                # Out of the container's root group, where systemd wants to enable controllers.
                self._cgroup.add(self._unshare.pid, None)
                return
            time.sleep(0.005)
        console = self.console()
        self.close()
        raise LabError(f"the container did not boot:\n{console[-4000:]}")

    def _find_leader(self):
        pid = self._unshare.pid
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                children = file.read().split()
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                is_unshare = file.read().strip() == "unshare"
        except OSError:
            return None
        return int(children[0]) if children and is_unshare else None

    def _is_systemd(self):
        # Before pivot_root the path leads to the host's own /run.
        with open(f"/proc/{self.leader}/comm", encoding="ascii") as file:
            return file.read().strip() == "systemd"

    def shutdown(self, timeout=30.0):
        """An orderly power-off. Returns the seconds it took."""
        begin = time.monotonic()
        self.run(["systemctl", "--no-block", "poweroff"], timeout=timeout)
        try:
            self._unshare.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"the container did not power off within {timeout} s") from error
        return time.monotonic() - begin

    def close(self):
        """Kill and remove everything. Safe to call at any time and more than once."""
        if self._unshare is not None and self._unshare.poll() is None:
            self._unshare.kill()
        clean = self._cgroup.close()
        if self._unshare is not None:
            self._unshare.wait()
        self.leader = None
        if not clean:
            raise LabError(f"control group {self._cgroup.path} could not be removed")

    @property
    def cgroup_path(self):
        """The container's control group as the host sees it."""
        return self._cgroup.payload

    def console(self):
        """What stage 1 and systemd wrote before there was a journal."""
        try:
            with open(self._console, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # ---- commands --------------------------------------------------------------------------------

    def argv(self, command, user=None, env=None):
        """The host's command line that runs `command` in the container."""
        prefix = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--",
                  "env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8",
                  "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0"]
        prefix += [f"{key}={value}" for key, value in (env or {}).items()]
        if user is not None:
            prefix += ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"]
        return prefix + list(command)

    def popen(self, command, user=None, env=None, **options):
        """Start a command in the container; subprocess.Popen of it. It is killed with the lab."""
        process = subprocess.Popen(self.argv(command, user, env), **options)
        try:
            self._cgroup.add(process.pid, "lab-exec")
        except ProcessLookupError:
            pass  # gone already
        return process

    def run(self, command, *, user=None, env=None, stdin=None, timeout=60.0, check=False):
        """Run a command as root or `user`, outside of any unit; a Result. `check`: raise if bad."""
        process = self.popen(command, user, env, text=True, errors="replace",
                             stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True)
        try:
            out, err = process.communicate(stdin, timeout=timeout)
            rc = process.returncode
        except subprocess.TimeoutExpired as expired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = _rest_of(process, expired)
            rc, err = 124, err + f"\n(killed after {timeout} s)"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        result = Result(list(command), rc, out, err)
        if check and rc != 0:
            raise LabError(str(result))
        return result

    def run_unit(self, command, *, properties=(), timeout=60.0, check=False):
        """Run a command as a transient unit: what a service may do holds only there."""
        options = [f"--property={p}" for p in properties]
        return self.run(["systemd-run", "--wait", "--pipe", "--quiet", "--collect", *options, "--",
                         *command], timeout=timeout, check=check)

    # ---- files -----------------------------------------------------------------------------------

    def write(self, path, text, mode=0o644):
        """Write a file: before boot() for the boot, afterwards into the running container."""
        if self.leader is None:
            target = self._extra + path
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(target, mode)
            return
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "sh", path, f"{mode:o}"], stdin=text, check=True)

    def path(self, inside):
        """A path of the container for the host's open(); links with absolute targets mislead it."""
        return f"/proc/{self.leader}/root{inside}"

    def exists(self, path):
        return self.run(["test", "-e", path]).ok

    # ---- journal ---------------------------------------------------------------------------------

    def journal_text(self, *arguments):
        return self.run(["journalctl", "--no-pager", "-o", "short-monotonic", *arguments]).out

    def keep_journal(self, directory):
        """Copy the journal's files to a folder of the host (journalctl -D reads them)."""
        os.makedirs(directory, exist_ok=True)
        self.run(["journalctl", "--sync"])
        subprocess.run(["cp", "-a", self.path("/run/log/journal/."), directory], check=True)
