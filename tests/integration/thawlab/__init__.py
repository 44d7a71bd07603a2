# SPDX-License-Identifier: MIT
"""The lab: boots throw-away containers for tools/lab and the integration tests."""

from .build import SOURCE_ROOT, TEST_PROGRAMS, find_builddir, stage
from .container import Lab, LabError, Mount, Result

__all__ = ["Lab", "LabError", "Mount", "Result", "SOURCE_ROOT", "TEST_PROGRAMS", "find_builddir",
           "stage"]
