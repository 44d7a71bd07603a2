# SPDX-License-Identifier: MIT
"""What a suite gives back."""

from dataclasses import dataclass


@dataclass
class Outcome:
    """Counts of one suite, and how long it took."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def failure():
    """A suite that could not even run counts as one failed test."""
    return Outcome(failed=1)


def total(outcomes):
    return Outcome(sum(o.passed for o in outcomes), sum(o.failed for o in outcomes),
                   sum(o.skipped for o in outcomes), sum(o.seconds for o in outcomes))
