# SPDX-License-Identifier: MIT
"""Build folders, and the tests that meson knows."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter

from outcome import Outcome, failure

SOURCE_ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


class BuildFolder:
    """One configured build: made when it is first asked for, built once per run."""

    def __init__(self, name, options=(), compiler=("gcc", "g++"), multiplier=1, targets=(),
                 second_try=False):
        self.second_try = second_try
        self.path = os.path.join(SOURCE_ROOT, name)
        self.options = list(options)
        self.compiler = compiler
        self.multiplier = multiplier
        self.targets = list(targets)  # none: everything
        self._configured = None
        self._built = None
        self._left = []  # what tests did not remove
        self.tried_again = []  # tests that only passed then

    def _environment(self):
        c, cxx = self.compiler
        if shutil.which("ccache"):
            c, cxx = f"ccache {c}", f"ccache {cxx}"
        # ccache by the compiler's own list of headers: its preprocessing would cost a fifth of the
        # time where nothing is cached yet, and knows nothing of precompiled headers.
        environment = dict(os.environ, CC=c, CXX=cxx, CCACHE_NOHASHDIR="1", CCACHE_DEPEND="1",
                           CCACHE_SLOPPINESS="pch_defines,time_macros",
                           CCACHE_BASEDIR=os.path.dirname(SOURCE_ROOT))
        # Flags of whoever calls must not decide what is tested.
        for name in ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"):
            environment.pop(name, None)
        return environment

    def build(self):
        """Configure and compile; False if that failed. What fails is not tried again."""
        if self._built is None:
            self._built = self.configure() and self._compile()
        return self._built

    def configure(self):
        """Configure only; False if that failed."""
        if self._configured is None:
            self._configured = self._configure()
        return self._configured

    def _configure(self):
        if os.path.exists(os.path.join(self.path, "build.ninja")):
            # Settings of an earlier run by hand must not stay; `meson configure` knows no option
            # that came since.
            command = ["meson", "setup", "--reconfigure", self.path, SOURCE_ROOT, *self.options]
        else:
            # A folder without build.ninja is what an interrupted setup left.
            shutil.rmtree(self.path, ignore_errors=True)
            command = ["meson", "setup", self.path, SOURCE_ROOT,
                       *self.options]
        done = subprocess.run(command, cwd=SOURCE_ROOT, env=self._environment(), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            print(done.stdout)
        return done.returncode == 0

    def _compile(self):
        done = subprocess.run(["ninja", "-C", self.path, "--quiet", "-k", "0", *self.targets],
                              env=self._environment(), check=False)
        return done.returncode == 0

    def tests(self, suite):
        """Names of the tests of a suite."""
        done = subprocess.run(["meson", "introspect", "--tests", self.path], check=True, text=True,
                              stdout=subprocess.PIPE)
        return [t["name"] for t in json.loads(done.stdout) if f"thaw:{suite}" in t["suite"]]

    def run_suite(self, suite, env=None, processes=None):
        """Run one suite of meson's tests; an Outcome that counts each case of each program."""
        if not self.build():
            return failure()
        if not self.tests(suite):
            print(f"there is no test in suite {suite}")
            return Outcome()
        command = ["meson", "test", "-C", self.path, "--suite", f"thaw:{suite}", "--no-rebuild",
                   "--print-errorlogs", "--logbase", f"log-{suite}",
                   "--timeout-multiplier", str(self.multiplier)]
        if processes is not None:
            command += ["--num-processes", str(processes)]
        entries = self._run(command, suite, env)
        again = [e["name"].split(" / ")[-1] for e in entries or () if not _is_well(e)]
        if again and self.second_try:
            print(f"==== suite {suite}: a second try of {' '.join(again)}")
            second = self._run([*command, *again], suite, env)
            if second is None:
                return failure()
            entries = [e for e in entries if _is_well(e)] + second
            self.tried_again += [e["name"] for e in second if _is_well(e)]
        outcome = _count(entries)
        if self._left:
            print(f"suite {suite} left behind: {' '.join(self._left)}")
            outcome.failed += 1
        self._left = []
        return outcome

    def _run(self, command, suite, env):
        """Entries of meson's log; None if there is none."""
        with _temporary_folder() as folder:
            done = subprocess.run(command, env=dict(os.environ, TMPDIR=folder, **(env or {})),
                                  check=False)
            self._left += sorted(os.listdir(folder))
        try:
            with open(os.path.join(self.path, "meson-logs", f"log-{suite}.json"),
                      encoding="utf-8") as file:
                entries = [json.loads(line) for line in file]
        except (OSError, ValueError):
            return None
        # meson itself failed.
        return None if done.returncode != 0 and all(map(_is_well, entries)) else entries


@contextlib.contextmanager
def _temporary_folder():
    """Short, for socket paths, and open to the other users that tests become."""
    with tempfile.TemporaryDirectory(prefix="thaw-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        yield folder


def _is_well(entry):
    return entry["result"] in ("OK", "EXPECTEDFAIL", "SKIP")


def _count(entries):
    """Sum meson's log: each case of a googletest program, each other program as one test."""
    if entries is None:
        return failure()
    outcome = Outcome()
    for entry in entries:
        cases = Counter(word.strip() for word in
                        re.findall(r"^\[ +(OK|FAILED|SKIPPED) +\] .* \(\d+ ms\)$",
                                   entry.get("stdout") or "", re.MULTILINE))
        result = entry["result"]
        if not cases:
            cases[{"OK": "OK", "EXPECTEDFAIL": "OK", "SKIP": "SKIPPED"}.get(result, "FAILED")] = 1
        elif not _is_well(entry) and not cases["FAILED"]:
            cases["FAILED"] = 1  # it crashed, hung, or its sanitizer spoke
        outcome.passed += cases["OK"]
        outcome.failed += cases["FAILED"]
        outcome.skipped += cases["SKIPPED"]
    return outcome
