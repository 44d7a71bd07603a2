# SPDX-License-Identifier: MIT
"""The build under test: where it is, and a staged installation of it."""

import os
import shutil
import subprocess
import tempfile

SOURCE_ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
# Programs of the tests that the containers need beside what is installed.
TEST_PROGRAMS = "/opt/thaw-tests"
_STAGE = "thaw-stage-"


def find_builddir(given=None):
    """The build folder: as given, $THAW_BUILDDIR, or the source tree's build/."""
    candidate = given or os.environ.get("THAW_BUILDDIR") or os.path.join(SOURCE_ROOT, "build")
    candidate = os.path.abspath(candidate)
    if not os.path.exists(os.path.join(candidate, "build.ninja")):
        raise RuntimeError(f"{candidate} is not a build folder; make one with "
                           f"`meson setup {candidate}` or name another with --builddir")
    return candidate


def stage(builddir, rebuild=True):
    """Install the build into a new temporary folder, which the caller removes."""
    _sweep()
    destination = tempfile.mkdtemp(prefix=f"{_STAGE}{os.getpid()}-")
    command = ["meson", "install", "-C", builddir, "--destdir", destination, "--quiet"]
    if not rebuild:
        command.append("--no-rebuild")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        shutil.rmtree(destination)
        raise RuntimeError(f"meson install failed:\n{done.stdout[-4000:]}")
    os.chmod(destination, 0o755)
    _merge_usr(destination)
    _copy_test_programs(builddir, destination)
    return destination


def _sweep():
    """Remove the stages of processes that were killed before they could."""
    parent = tempfile.gettempdir()
    for name in os.listdir(parent):
        pid = name[len(_STAGE):].partition("-")[0] if name.startswith(_STAGE) else ""
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)


def _merge_usr(tree):
    """/lib of the machine is a link to usr/lib; a real folder laid over it would hide that."""
    for name in ("lib", "bin", "sbin"):
        directory = os.path.join(tree, name)
        if os.path.isdir(directory) and os.path.islink("/" + name):
            shutil.copytree(directory, os.path.join(tree, "usr", name), dirs_exist_ok=True,
                            symlinks=True)
            shutil.rmtree(directory)


def _copy_test_programs(builddir, tree):
    target = tree + TEST_PROGRAMS
    os.makedirs(target, exist_ok=True)
    for folder in ("tests/vmm", "tests/virtiofs", "tests/bench", "tests/fakes"):
        directory = os.path.join(builddir, folder)
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            path = os.path.join(directory, name)
            if name.startswith("thaw-") and os.path.isfile(path) and os.access(path, os.X_OK):
                shutil.copy2(path, target)
