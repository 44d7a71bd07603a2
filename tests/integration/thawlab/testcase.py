# SPDX-License-Identifier: MIT
"""Base of the integration tests: one container per class, shared by its tests."""

import atexit
import os
import shutil
import sys
import unittest

from . import build
from .container import Lab

_staged = None


def staged_build():
    """The installed build of this run, made once: by the runner, or here for a lone test file."""
    global _staged  # pylint: disable=global-statement
    if _staged is None:
        _staged = os.environ.get("THAW_LAB_STAGE")
        if not _staged:
            _staged = build.stage(build.find_builddir())
            atexit.register(shutil.rmtree, _staged, ignore_errors=True)
    return _staged


class LabTestCase(unittest.TestCase):
    """`self.lab` is a booted container with the build installed.

    A subclass plants files that must be there at boot in `prepare(lab)`, and names folders of the
    host to bind in `MOUNTS`. When a test fails, the journal since the class's boot is printed.
    """

    MOUNTS = ()
    JOURNAL_LINES = 120
    lab = None

    @classmethod
    def prepare(cls, lab):
        """Hook: write files before the container boots."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab = Lab(stage=staged_build(), mounts=cls.MOUNTS)
        try:
            cls.prepare(cls.lab)
            cls.lab.boot()
        except BaseException:
            cls.lab.close()
            raise
        cls.addClassCleanup(cls.lab.close)

    def run(self, result=None):
        before = _bad(result)
        outcome = super().run(result)
        if _bad(result) > before and self.lab is not None and self.lab.leader is not None:
            print(f"--- journal at the failure of {self.id()} ---\n"
                  f"{self.lab.journal_text('-n', str(self.JOURNAL_LINES))}---", file=sys.stderr)
        return outcome


def _bad(result):
    return len(result.failures) + len(result.errors) if result is not None else 0
