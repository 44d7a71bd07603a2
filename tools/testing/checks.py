# SPDX-License-Identifier: MIT
"""Checks of the sources: format, clang-tidy, XML, manual pages, scripts, catalog."""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

from meson import SOURCE_ROOT
from outcome import Outcome, failure


# Of what one file's check says, as much as is read.
_LINES = 40
# The analyzer's full depth is twice the time of all other checks together.
_ANALYZER = ("--extra-arg=-Xclang", "--extra-arg=-analyzer-config", "--extra-arg=-Xclang",
             "--extra-arg=mode=shallow",
             "--extra-arg=-Xclang", "--extra-arg=-analyzer-opt-analyze-headers")


def tracked(*patterns):
    """Files of the repository, those about to be added included, that match git's patterns."""
    done = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--",
                           *patterns], cwd=SOURCE_ROOT, check=True, text=True,
                          stdout=subprocess.PIPE)
    files = sorted(set(done.stdout.splitlines()))
    return [f for f in files if os.path.exists(os.path.join(SOURCE_ROOT, f))]


def each(files, command, deadline=None):
    """Run command(file) for each file, as many at a time as there are processors; none is begun
    after the deadline."""
    def run(file):
        if deadline is not None and time.monotonic() > deadline:
            return file, None
        return file, subprocess.run(command(file), cwd=SOURCE_ROOT, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    outcome = Outcome()
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for file, done in pool.map(run, files):
            if done is None:
                outcome.skipped += 1
            elif done.returncode == 0:
                outcome.passed += 1
            else:
                outcome.failed += 1
                lines = done.stdout.rstrip().splitlines()
                rest = [f"... and {len(lines) - _LINES} more lines"] if len(lines) > _LINES else []
                print("\n".join([f"{file}:", *lines[:_LINES], *rest]), flush=True)
    if outcome.skipped:
        print(f"{outcome.skipped} files were left out: the time is over")
    return outcome


def add(*outcomes):
    return Outcome(sum(o.passed for o in outcomes), sum(o.failed for o in outcomes),
                   sum(o.skipped for o in outcomes))


def check_format():
    return each(tracked("*.cpp", "*.hpp"),
                lambda f: ["clang-format-19", "--dry-run", "-Werror", "--ferror-limit=3", f])


def _by_last_change():
    """A key that sorts what was changed last first, for checks whose time may end before they do."""
    done = subprocess.run(["git", "log", "--format=", "--name-only"], cwd=SOURCE_ROOT, text=True,
                          stdout=subprocess.PIPE, check=False)
    names = dict.fromkeys(done.stdout.splitlines())
    order = {os.path.join(SOURCE_ROOT, name): i for i, name in enumerate(names)}
    return lambda file: (order.get(file, -1), file)


def _sources_of(unit, build):
    """What of the tree a file of the build compiles: itself, or those that a unity file includes."""
    if not unit.startswith(build.path + "/"):
        return [unit]
    if not re.search(r"-unity\d+\.cpp$", unit):
        return []
    with open(unit, encoding="utf-8") as file:
        included = re.findall(r"^#include\s*<(.*)>$", file.read(), re.MULTILINE)
    return [f for f in map(os.path.realpath, included) if not f.startswith(build.path + "/")]


def check_tidy(build, deadline=None):
    """clang-tidy over what the build would compile, a unity file at a time: headers are read once for
    all of its sources, which halves the time."""
    if not build.configure():
        return failure()
    with open(os.path.join(build.path, "compile_commands.json"), encoding="utf-8") as file:
        compiled = {os.path.realpath(os.path.join(e["directory"], e["file"]))
                    for e in json.load(file)}
    # Of the settings, those nearest to a file count: the build folder lies in the tree.
    for name in tracked("*/.clang-tidy"):
        shutil.copyfile(os.path.join(SOURCE_ROOT, name), os.path.join(build.path, name))
    last_change = _by_last_change()
    sources = {f: _sources_of(f, build) for f in compiled if f.startswith(SOURCE_ROOT + "/")}
    units = sorted((f for f, parts in sources.items() if parts),
                   key=lambda f: min(map(last_change, sources[f])))
    # The commands are gcc's: some of its warnings are unknown to clang. Sources of a unity file count
    # as headers.
    return each(units, lambda f: ["clang-tidy-19", "--quiet", "-p", build.path,
                                  "--checks=-bugprone-suspicious-include",
                                  r"--header-filter=(libcommon|services|tests)/.*\.[ch]pp$",
                                  "--extra-arg=-Wno-unknown-warning-option",
                                  "--extra-arg=-Wno-ignored-optimization-argument",
                                  "--extra-arg=-Wno-c99-extensions",
                                  *_ANALYZER, f], deadline)


def check_static():
    """Everything that needs no build."""
    return add(
        each(tracked("dbus/*.xml", "dbus/*.conf", "dbus/*.policy"),
             lambda f: ["xmllint", "--noout", "--nonet", f]),
        each(_manual_pages(), lambda f: ["mandoc", "-T", "lint", "-W", "warning", f]),
        each(_shell_scripts(), lambda f: ["bash", "-n", f]),
        each(tracked("*.py", "tests/integration/run", "tests/guests/run", "tools/lab"),
             _compile_python),
        _message_ids(), _catalog())


def _compile_python(file):
    code = "import sys; compile(open(sys.argv[1], encoding='utf-8').read(), sys.argv[1], 'exec')"
    return ["/usr/bin/python3", "-W", "error", "-c", code, file]


def _manual_pages():
    """Pages with a text of their own; another name of a page is one line that includes it."""
    pages = []
    for name in tracked("docs/man/*.[1-8]"):
        with open(os.path.join(SOURCE_ROOT, name), encoding="utf-8") as file:
            if not file.read(4) == ".so ":
                pages.append(name)
    return pages


def _shell_scripts():
    scripts = []
    for name in tracked("*.sh", "tools/*", ".ci/*"):
        with open(os.path.join(SOURCE_ROOT, name), "rb") as file:
            if re.match(rb"#!/bin/(ba)?sh\b", file.readline()):
                scripts.append(name)
    return scripts


def _message_ids():
    """The ids in the header and in the catalog are the same, and none is there twice."""
    with open(os.path.join(SOURCE_ROOT, "libcommon/log/message_ids.hpp"), encoding="utf-8") as file:
        header = re.findall(r'"([0-9a-f]{32})"', file.read())
    with open(os.path.join(SOURCE_ROOT, "units/thaw.catalog"), encoding="utf-8") as file:
        catalog = re.findall(r"^-- ([0-9a-f]{32})", file.read(), re.MULTILINE)
    for text in sorted(set(header) ^ set(catalog)):
        where = "the catalog" if text in header else "message_ids.hpp"
        print(f"message id {text} is missing in {where}")
    good = sorted(header) == sorted(catalog) and len(set(header)) == len(header)
    return Outcome(passed=1) if good else failure()


def _catalog():
    """journalctl accepts the catalog."""
    root = tempfile.mkdtemp(prefix="thaw-catalog-")
    try:
        source = os.path.join(root, "usr/lib/systemd/catalog")
        os.makedirs(source)
        os.makedirs(os.path.join(root, "var/lib/systemd/catalog"))
        shutil.copy(os.path.join(SOURCE_ROOT, "units/thaw.catalog"), source)
        done = subprocess.run(["journalctl", f"--root={root}", "--update-catalog"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0 or done.stdout.strip():
            print(done.stdout)
            return failure()
        return Outcome(passed=1)
    finally:
        shutil.rmtree(root)
