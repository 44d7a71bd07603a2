# SPDX-License-Identifier: MIT
"""The lab: boots throw-away containers for tools/lab and the integration tests."""

from .build import SOURCE_ROOT, TEST_PROGRAMS, find_builddir, stage
from .container import Lab, LabError, Mount, Result
from .hugepages import hugepages
from .inside import (busctl, escape, journal, main_pid, processes, unit, unit_state, vm_unit,
                     wait_for)
from .testcase import LabTestCase

__all__ = ["Lab", "LabError", "LabTestCase", "Mount", "Result", "SOURCE_ROOT", "TEST_PROGRAMS",
           "busctl", "escape", "find_builddir", "hugepages", "journal", "main_pid", "processes",
           "stage", "unit", "unit_state", "vm_unit", "wait_for"]
