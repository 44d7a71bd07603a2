# SPDX-License-Identifier: MIT
"""Builds and runs the suites; called by tools/test."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time

import checks
from meson import SOURCE_ROOT, BuildFolder
from outcome import Outcome, failure, total

DEFAULT = ("unit", "bus", "disk", "integration")
ALL = ("static", "format", "unit", "bus", "disk", "integration", "fault", "guests", "fuzz",
       "sanitizers", "tidy")
# They wait for timers rather than for a processor.
_BUS_PROCESSES = 4
_SANITIZER_ENV = {
    # Who dies of SIGBUS is to die of it, as without a sanitizer.
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:abort_on_error=1:"
                    "handle_sigbus=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


class Suites:
    """One method per suite, each returning an Outcome."""

    def __init__(self, soak, thorough, deadline, second_try):
        self.soak = soak
        self.second_try = second_try
        self.thorough = thorough
        self.deadline = deadline
        # The debug information costs a third of the time to build, -O2 a quarter against -O1 and
        # -O1 half against -O0, headers that are parsed for each file half. What is warned of
        # depends on the optimization: everything is built with it when there is time.
        quick = ["-Dwerror=true", "-Dtests=true", "-Ddebug=false", "-Dprecompiled_headers=true",
                 "-Dunity=on", "-Dunity_size=8"]
        thoroughly = ["-Doptimization=1"] if thorough else ["-Doptimization=0", "-Dbenches=false"]
        self.gcc = BuildFolder("build", [*quick, *thoroughly], second_try=second_try)
        self.sanitized = BuildFolder("build-sanitizers",
                                     [*quick, "-Dsanitizers=true", "-Doptimization=0",
                                      "-Dbenches=false", "-Ddocs=false"], multiplier=5,
                                     second_try=second_try)
        # Not built: clang-tidy needs the commands, and has no use for gcc's precompiled header.
        self.tidied = BuildFolder("build-tidy", ["-Dtests=true", "-Ddocs=false",
                                                 "-Dunity=on", "-Dunity_size=8"])
        self.fuzzers = BuildFolder("build-fuzz", ["-Dfuzzers=true", "-Dtests=true", "-Ddocs=false"],
                                   compiler=("clang-19", "clang++-19"), targets=["fuzzers"])

    def unit(self):
        return self.gcc.run_suite("unit")

    def bus(self):
        return self.gcc.run_suite("bus", processes=_BUS_PROCESSES)

    def disk(self):
        return self.gcc.run_suite("disk")

    def fault(self):
        return self.gcc.run_suite("fault")

    def soak_loops(self):
        return self.gcc.run_suite("soak", env={"THAW_SOAK": "1"})

    def sanitizers(self):
        return total([self.sanitized.run_suite("unit", env=_SANITIZER_ENV),
                      self.sanitized.run_suite("bus", env=_SANITIZER_ENV,
                                               processes=_BUS_PROCESSES)])

    def fuzz(self):
        """Each target with its corpus and a short time on top; nothing to do without targets."""
        if not checks.tracked("tests/fuzz/*.cpp"):
            print("there is no fuzz target")
            return Outcome()
        return self.fuzzers.run_suite("fuzz", env={"THAW_SOAK": "1"} if self.soak else None)

    def integration(self):
        if os.geteuid() != 0:
            print("the integration tests boot containers: run tools/test as root")
            return failure()
        if not self.gcc.build():
            return failure()
        return self._scenarios()

    def _scenarios(self, *arguments):
        # They wait for timers half of the time; what is thorough leaves room to those who measure.
        jobs = "2" if self.thorough else "3"
        command = [os.path.join(SOURCE_ROOT, "tests/integration/run"), "--builddir", self.gcc.path,
                   "--jobs", jobs, *arguments]
        if self.thorough:
            command.append("--thorough")
        if self.second_try:
            command.append("--second-try")
        if self.soak:
            command += ["--soak", "--timeout", "3600"]
        return _run_and_count(command)

    def guests(self):
        """Kernels that the tests boot: the worker on Debian 12's, whatever this machine has, and
        the scenarios with a guest."""
        if os.geteuid() != 0:
            print("the guests run in containers: run tools/test as root")
            return failure()
        if not self.gcc.build():
            return failure()
        return total([_run_and_count([os.path.join(SOURCE_ROOT, "tests/guests/run"), "--builddir",
                                      self.gcc.path]),
                      self._scenarios("--guests")])

    def static(self):
        return checks.check_static()

    def format(self):
        return checks.check_format()

    def tidy(self):
        return checks.check_tidy(self.tidied, self.deadline)


def _run_and_count(command):
    """Run a program whose last line is `N passed, N failed, N skipped`, showing its output."""
    last = ""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line
    match = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped\n", last)
    if match is None:
        return failure()
    outcome = Outcome(*map(int, match.groups()))
    if process.returncode != 0 and outcome.failed == 0:
        outcome.failed = 1
    return outcome


def _names(options):
    if options.suite:
        return list(dict.fromkeys(options.suite))
    names = list(ALL if options.all else DEFAULT)
    if options.soak:
        names.append("soak")
    return names


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="tools/test",
        description="Installs what is missing, builds, and runs the tests: by default "
                    + ", ".join(DEFAULT) + ". Ends with `N passed, N failed, N skipped`.")
    parser.add_argument("--all", action="store_true",
                        help="everything a change must pass: " + ", ".join(ALL))
    parser.add_argument("--soak", action="store_true", help="the long loops as well (hours)")
    parser.add_argument("--suite", action="append", choices=(*ALL, "soak"), metavar="NAME",
                        help="only this suite; may be given more than once: "
                             + ", ".join((*ALL, "soak")))
    parser.add_argument("--minutes", type=float, metavar="N",
                        help="begin nothing after that time; what was left out is said and counts "
                             "as skipped")
    parser.add_argument("--second-try", action="store_true",
                        help="what fails is run once more, and passes if it passes then: for "
                             "machines that others use as well; what needed it is listed")
    parser.add_argument("--no-bootstrap", action="store_true",
                        help="do not look for missing packages first")
    return parser.parse_args(arguments)


def main(arguments):
    options = parse(arguments)
    sys.stdout.reconfigure(line_buffering=True)
    # The default action would skip the clean-up of labs.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else None
    suites = Suites(options.soak, options.all, deadline, options.second_try)
    outcomes = {}
    for name in _names(options):
        print(f"\n==== suite {name}")
        begin = time.monotonic()
        if deadline is not None and begin > deadline:
            print(f"suite {name} was left out: {options.minutes:.0f} minutes are over")
            outcome = Outcome(skipped=1)
        else:
            outcome = getattr(suites, "soak_loops" if name == "soak" else name)()
        outcome.seconds = time.monotonic() - begin
        outcomes[name] = outcome
        print(f"==== suite {name}: {outcome} ({outcome.seconds:.0f} s)")
    print("\n==== summary")
    for name, outcome in outcomes.items():
        print(f"{name:12} {outcome.seconds:6.0f} s  {outcome}")
    for name in suites.gcc.tried_again + suites.sanitized.tried_again:
        print(f"passed at the second try: {name}")
    everything = total(outcomes.values())
    print(f"{'all':12} {everything.seconds:6.0f} s\n")
    print(everything)
    return 1 if everything.failed or not everything.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
