# SPDX-License-Identifier: MIT
"""tools/lab: run commands in a throw-away systemd container with the build installed."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

from . import Lab, LabError, Mount, find_builddir, stage

_LAB_FAILED = 125
_TIMED_OUT = 124


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="tools/lab", formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="tools/lab [options] [-- COMMAND [ARG...]]",
        description="Boots the machine's own root as a throw-away container (an overlay; nothing "
                    "is written to the machine)\nwith this build installed, runs a command in it "
                    "and removes everything. The exit status is the\ncommand's; 124 is a timeout, "
                    "125 a lab that did not work.",
        epilog="Without COMMAND and --script: an interactive shell.\n"
               "Commands run outside of any unit's sandbox; to see what a service may do use\n"
               "systemd-run --wait --pipe -p ... COMMAND. Users: tester (in group thaw), visitor.")
    parser.add_argument("--builddir", help="build folder (default: $THAW_BUILDDIR or build/)")
    parser.add_argument("--no-build", action="store_true",
                        help="boot without this build installed")
    parser.add_argument("--no-rebuild", action="store_true",
                        help="install what is built without asking ninja for more")
    parser.add_argument("--script", metavar="FILE",
                        help="run FILE with bash -e in the container (- is standard input)")
    parser.add_argument("--user", help="run as this user, for example tester or visitor")
    parser.add_argument("--mount", action="append", default=[], metavar="SRC:DST[:ro]",
                        help="bind a file or folder of the host")
    parser.add_argument("--file", action="append", default=[], metavar="SRC:DST",
                        help="copy a file into the container before it boots")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SEC",
                        help="bound for the command (default 600)")
    parser.add_argument("--keep-journal", metavar="DIR", help="copy the journal's files to DIR")
    parser.add_argument("--show-journal", action="store_true",
                        help="print the journal to standard error at the end")
    parser.add_argument("--verbose", action="store_true", help="say how long each step took")
    parser.add_argument("command", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.script and options.command:
        parser.error("--script and a command exclude each other")
    return options


def _mount(text):
    parts = text.split(":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise LabError(f"--mount wants SRC:DST or SRC:DST:ro, not '{text}'")
    if not os.path.exists(parts[0]):
        raise LabError(f"--mount: {parts[0]} does not exist")
    return Mount(parts[0], parts[1], parts[2:] == ["ro"])


def _plant_files(lab, files):
    for text in files:
        source, _, target = text.partition(":")
        if not target.startswith("/"):
            raise LabError(f"--file wants SRC:/DST, not '{text}'")
        with open(source, encoding="utf-8") as file:
            lab.write(target, file.read(), os.stat(source).st_mode & 0o777)


def _command(lab, options):
    if options.script:
        if options.script == "-":
            text = sys.stdin.read()
        else:
            with open(options.script, encoding="utf-8") as file:
                text = file.read()
        lab.write("/run/thaw-lab/script", text, 0o755)
        return ["bash", "-e", "/run/thaw-lab/script"]
    return options.command or ["bash", "-l"]


def _run(lab, options):
    process = lab.popen(_command(lab, options), user=options.user,
                        env={"TERM": os.environ.get("TERM", "dumb")})
    try:
        return process.wait(options.timeout)
    except subprocess.TimeoutExpired:
        print(f"lab: the command did not end within {options.timeout:g} s", file=sys.stderr)
        return _TIMED_OUT
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def main(arguments):
    options = parse(arguments)

    def end(number, _frame):
        sys.exit(128 + number)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    if os.geteuid() != 0:
        print("lab: root is needed to boot a container", file=sys.stderr)
        return _LAB_FAILED

    begin = time.monotonic()

    def say(what):
        if options.verbose:
            print(f"lab: {what} after {time.monotonic() - begin:.2f} s", file=sys.stderr)

    staged = lab = None
    try:
        if not options.no_build:
            staged = stage(find_builddir(options.builddir), rebuild=not options.no_rebuild)
            say("installed")
        lab = Lab(stage=staged, mounts=[_mount(text) for text in options.mount])
        _plant_files(lab, options.file)
        lab.boot()
        say("booted")
        status = _run(lab, options)
        say("command ended")
        if options.keep_journal:
            lab.keep_journal(options.keep_journal)
        if options.show_journal:
            print(lab.journal_text(), file=sys.stderr)
        return status
    except (LabError, RuntimeError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return _LAB_FAILED
    finally:
        if lab is not None:
            lab.close()
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
        say("cleaned up")
