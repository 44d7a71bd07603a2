# SPDX-License-Identifier: MIT
"""Build folders, and the tests that meson knows."""

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

from outcome import Outcome, failure

SOURCE_ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


class BuildFolder:
    """One configured build: made when it is first asked for, built once per run."""

    def __init__(self, name, options=(), compiler=("gcc", "g++"), multiplier=1):
        self.path = os.path.join(SOURCE_ROOT, name)
        self.options = list(options)
        self.compiler = compiler
        self.multiplier = multiplier
        self._built = None

    def _environment(self):
        c, cxx = self.compiler
        if shutil.which("ccache"):
            c, cxx = f"ccache {c}", f"ccache {cxx}"
        environment = dict(os.environ, CC=c, CXX=cxx, CCACHE_NOHASHDIR="1",
                           CCACHE_BASEDIR=os.path.dirname(SOURCE_ROOT))
        # Flags of whoever calls must not decide what is tested.
        for name in ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"):
            environment.pop(name, None)
        return environment

    def build(self):
        """Configure and compile; False if that failed. What fails is not tried again."""
        if self._built is None:
            self._built = self._configure() and self._compile()
        return self._built

    def _configure(self):
        if os.path.exists(os.path.join(self.path, "build.ninja")):
            # Settings of an earlier run by hand must not stay.
            command = ["meson", "configure", self.path, *self.options]
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
        done = subprocess.run(["ninja", "-C", self.path, "--quiet", "-k", "0"],
                              env=self._environment(), check=False)
        return done.returncode == 0

    def tests(self, suite):
        """Names of the tests of a suite."""
        done = subprocess.run(["meson", "introspect", "--tests", self.path], check=True, text=True,
                              stdout=subprocess.PIPE)
        return [t["name"] for t in json.loads(done.stdout) if f"thaw:{suite}" in t["suite"]]

    def run_suite(self, suite, env=None):
        """Run one suite of meson's tests; an Outcome that counts each case of each program."""
        if not self.build():
            return failure()
        if not self.tests(suite):
            print(f"there is no test in suite {suite}")
            return Outcome()
        command = ["meson", "test", "-C", self.path, "--suite", f"thaw:{suite}", "--no-rebuild",
                   "--print-errorlogs", "--logbase", f"log-{suite}",
                   "--timeout-multiplier", str(self.multiplier)]
        done = subprocess.run(command, env=dict(os.environ, **(env or {})), check=False)
        outcome = _count(os.path.join(self.path, "meson-logs", f"log-{suite}.junit.xml"))
        if done.returncode != 0 and outcome.failed == 0:
            outcome.failed = 1
        return outcome


def _count(junit):
    """Sum a JUnit file: suites written by a test program hold its cases, meson's own the rest."""
    outcome = Outcome()
    try:
        root = ElementTree.parse(junit).getroot()
    except (OSError, ElementTree.ParseError):
        return failure()
    for case in root.iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome.failed += 1
        elif "skipped" in kinds or case.get("result") == "skipped":
            outcome.skipped += 1
        else:
            outcome.passed += 1
    return outcome
