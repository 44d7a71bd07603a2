# SPDX-License-Identifier: MIT
"""Real virtiofsd of three dialects, and a guest without a guest (tests/virtiofs) that talks to it."""

import functools
import json
import os
import subprocess

from .build import SOURCE_ROOT, TEST_PROGRAMS, find_builddir
from .container import Mount

DIALECTS = ("c", "rust", "rust-next")
CLIENT = f"{TEST_PROGRAMS}/thaw-fuse-client"
# Where the daemons are in a lab.
DAEMONS = "/opt/thaw-virtiofsd"


def fetch():
    """The folder with the daemons that could be had: fetched once per build folder."""
    folder = os.environ.get("THAW_VIRTIOFSD") or os.path.join(find_builddir(), "virtiofsd")
    script = os.path.join(SOURCE_ROOT, "tests", "virtiofs", "fetch-daemons")
    done = subprocess.run([script, folder], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"no virtiofsd: {done.stdout[-2000:]}")
    return folder


def available(folder):
    """The dialects of DIALECTS that are there; a moving suite may lack one."""
    return tuple(d for d in DIALECTS if os.path.exists(f"{folder}/{d}/virtiofsd"))


def mount(folder):
    """The lab's view of the daemons: daemon(dialect) is the path of one."""
    return Mount(folder, DAEMONS, read_only=True)


def daemon(dialect):
    return f"{DAEMONS}/{dialect}/virtiofsd"


def each_dialect(test):
    """Runs a test of a class with `dialects` once for each of them, as subtests."""
    @functools.wraps(test)
    def run(self):
        for dialect in self.dialects:
            with self.subTest(dialect=dialect):
                test(self, dialect)
    return run


class GuestError(Exception):
    """The share refused a request, or is gone; `errno` is the name of the error."""

    def __init__(self, request, answer):
        super().__init__(f"{request} -> {answer}")
        self.errno = answer.get("errno")
        self.gone = bool(answer.get("gone"))


class Guest:
    """A client of one share. Requests are methods: guest.read(path="a"), guest.walk(), ..."""

    def __init__(self, lab, socket):
        self._lab, self._socket = lab, socket
        self._process = lab.popen([CLIENT, socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, bufsize=1)
        self.greeting = self._answer("connect")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **members: self.request(name, **members)

    def request(self, operation, **members):
        """One request; its answer. GuestError if it was refused."""
        self.send(operation, **members)
        return self._answer(f"{operation} {members}")

    def send(self, operation, **members):
        """Without waiting: receive() takes the answer."""
        self._process.stdin.write(json.dumps({"op": operation, **members}) + "\n")
        self._process.stdin.flush()

    def receive(self):
        return self._answer("request")

    def _answer(self, what):
        line = self._process.stdout.readline()
        if not line:
            raise GuestError(what, {"errno": "EPIPE", "gone": True, "error": "the client ended"})
        answer = json.loads(line)
        if not answer["ok"]:
            raise GuestError(what, answer)
        return answer

    def kill(self):
        """As a VMM that dies: the connection breaks without a word."""
        # The process that we started is nsenter; its child is what the daemon sees.
        self._lab.run(["pkill", "-KILL", "-f", f"^{CLIENT} {self._socket}"])
        self.close()

    def close(self):
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it ended already
        self._process.wait(10)
        self._process.stdout.close()


def make_tree(lab, path, directories, files):
    """directories × files small files below `path` of the lab; how many nodes that is."""
    script = ("import os,sys\n"
              "root,ds,fs=sys.argv[1],int(sys.argv[2]),int(sys.argv[3])\n"
              "for d in range(ds):\n"
              "    os.makedirs(f'{root}/d{d}',exist_ok=True)\n"
              "    for f in range(fs):\n"
              "        with open(f'{root}/d{d}/f{f}','w') as file: file.write('hi\\n')\n")
    lab.run(["/usr/bin/python3", "-c", script, path, str(directories), str(files)], check=True,
            timeout=300)
    return directories * (files + 1)


def count_descriptors(lab, pid):
    """Open descriptors of a process of the lab, by the folder itself."""
    return len(lab.run(["ls", f"/proc/{pid}/fd"], check=True).out.split())
