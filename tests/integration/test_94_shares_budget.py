# SPDX-License-Identifier: MIT
"""The budget of descriptors: flat with file handles, announced before the wall without them."""

import os
import time
import unittest

from thawlab import virtiofs
from thawlab.inside import wait_for
from thawlab.sharing import DATA, UNKNOWN, ShareTestCase, dialects_of

SOAK = bool(os.environ.get("THAW_SOAK"))
# Directories × files. 100 000 nodes in the long run.
WIDE = (500, 199) if SOAK else (100, 99)
LIMIT = 4096


@dialects_of
class Budget(ShareTestCase):
    """One tree, walked by a guest that forgets nothing."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.nodes = virtiofs.make_tree(cls.lab, f"{DATA}/wide", *WIDE)
        # The end of the container would have to do it otherwise, and is waited for less patiently.
        cls.addClassCleanup(cls.lab.run, ["rm", "-rf", f"{DATA}/wide"], timeout=120)

    def walk_in_steps(self, guest, steps, pause):
        """Walks the tree folder by folder, `steps` folders between pauses; the errors met."""
        errors = {}
        for folder in range(WIDE[0]):
            report = guest.walk(path=f"d{folder}") if not errors else None
            if report is None:
                break
            errors = report["errors"]
            if folder % steps == steps - 1:
                time.sleep(pause)
        return errors

    def test_with_file_handles_the_count_stays_flat(self):
        if self.DIALECT == "c":  # has none
            self.refused("HandlesUnavailable", "web", "flat", f"{DATA}/wide",
                         "--file-handles=mandatory")
            return
        guest = self.guest(self.share("web", "flat", f"{DATA}/wide", "--file-handles=mandatory"))
        walk = guest.walk(open=True)
        self.assertEqual((walk["nodes"], walk["errors"]), (self.nodes, {}))
        share = self.properties("web", "flat")
        real = virtiofs.count_descriptors(self.lab, share["WorkerPID"])
        self.assertLess(real, 64)
        wait_for(lambda: self.property("web", "flat", "Descriptors") < 64, 5, "the count")
        self.assertEqual(self.property("web", "flat", "DescriptorLevel"), "normal")

    def test_levels_come_before_the_wall_and_go_again(self):
        signals = self.watch_signals()
        guest = self.guest(self.share("web", "wall", f"{DATA}/wide", "--file-handles=never",
                                      f"--limit={LIMIT}"))
        budget = self.property("web", "wall", "DescriptorBudget")
        self.assertLess(budget, LIMIT)
        # 100 nodes at a time, so that a walk lasts several polls.
        errors = self.walk_in_steps(guest, 1, 0.1)
        wall = "EMFILE" if self.DIALECT == "c" else "ENFILE"
        self.assertGreater(errors.get(wall, 0), 0, errors)
        self.wait_property("web", "wall", "DescriptorLevel", "critical")
        share = self.properties("web", "wall")
        self.assertGreaterEqual(share["Descriptors"], budget * 95 // 100)
        self.assertTrue(share["Remedies"])
        if self.DIALECT != "c":
            self.wait_property("web", "wall", "State", "exhausted")
            self.assert_logged("", "THAW_SHARE=web:wall", "-p", "err")
        guest.forget()
        self.wait_property("web", "wall", "DescriptorLevel", "normal")
        self.wait_property("web", "wall", "State", "connected")
        self.assertEqual(guest.read(path="d0/f0")["data"], "hi\n")

        rise = [data for member, data in signals() if member == "LevelChanged"
                and data[0] == "descriptors"]
        levels = [data[2] for data in rise]
        self.assertEqual(levels[:3], ["elevated", "high", "critical"], rise)
        # A poll in the middle of the FORGETs sees the levels between.
        down = [level for level in ("high", "elevated") if level in levels[3:]] + ["normal"]
        self.assertEqual(levels[3:], down, rise)
        for data, percent in zip(rise, (60, 80, 95)):
            used, of_budget = int(data[3]), int(data[4])
            self.assertGreaterEqual(used * 100, of_budget * percent)
            self.assertLess(used, of_budget, "announced only at the wall")

    def test_the_forecast_is_within_a_factor_of_two(self):
        guest = self.guest(self.share("web", "soon", f"{DATA}/wide", "--file-handles=never",
                                      f"--limit={LIMIT}"))
        forecasts, errors, folder = [], {}, 0
        begin = time.monotonic()
        while not errors and folder < WIDE[0]:
            errors = guest.walk(path=f"d{folder}")["errors"]
            folder += 1
            left = self.property("web", "soon", "ExhaustionUSec")
            if left != UNKNOWN:
                forecasts.append((time.monotonic(), left / 1e6))
            # So many nodes a second, whatever a folder holds.
            pace = 0.002 * (WIDE[1] + 1)
            time.sleep(max(0.0, begin + folder * pace - time.monotonic()))
        end = time.monotonic()
        self.assertTrue(errors, "the wall was not reached")
        # Once there is something to go by; and not the last moments, where the poll's own
        # granularity is as long as what is left.
        judged = [(left, end - when) for when, left in forecasts if 1.0 < end - when < end - begin - 2]
        self.assertGreater(len(judged), 3, forecasts)
        for left, really in judged:
            self.assertLess(left, really * 2, judged)
            self.assertGreater(left, really / 2, judged)

    def test_a_hover_at_a_threshold_is_reported_once(self):
        guest = self.guest(self.share("web", "hover", f"{DATA}/wide", "--file-handles=never",
                                      f"--limit={LIMIT}"))
        budget = self.property("web", "hover", "DescriptorBudget")
        signals = self.watch_signals()
        folder, used = 0, 0
        while used * 100 < budget * 61:
            used += guest.walk(path=f"d{folder}")["nodes"] + 1
            folder += 1
        self.wait_property("web", "hover", "DescriptorLevel", "elevated")
        for _ in range(5):
            guest.forget(newest=budget * 3 // 100)  # below the threshold, not below its foot
            time.sleep(0.3)
            guest.walk(path=f"d{folder - 1}")
            guest.walk(path=f"d{folder - 2}")
            time.sleep(0.3)
        self.assertEqual(self.property("web", "hover", "DescriptorLevel"), "elevated")
        levels = [data[1:3] for member, data in signals() if member == "LevelChanged"]
        self.assertEqual(levels, [["normal", "elevated"]])


if __name__ == "__main__":
    unittest.main()
