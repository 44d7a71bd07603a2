# SPDX-License-Identifier: MIT
"""The README's install steps, typed into a machine that has no thaw yet."""

import os
import re
import unittest

from thawlab import SOURCE_ROOT, Lab, Mount, find_builddir, unit

# Done already by whoever runs the tests, and slow.
BUILDING = re.compile(r"^(tools/bootstrap|meson setup)\b")
DAEMONS = ("diskguardd", "pagerd", "restored", "sharesd")


def install_steps(builddir):
    with open(os.path.join(SOURCE_ROOT, "README.md"), encoding="utf-8") as file:
        section = re.search(r"^## Install\n.*?^```sh\n(.*?)^```", file.read(),
                            re.MULTILINE | re.DOTALL).group(1)
    lines = [line for line in section.splitlines() if not BUILDING.match(line)]
    text = "\n".join(lines)
    assert text.count("-C build") == 1, text
    return text.replace("-C build", f"-C {builddir} --no-rebuild --quiet")


class ReadmeInstall(unittest.TestCase):
    """What is enabled at the end runs, and the doctor is content."""

    def test_install_steps(self):
        builddir = find_builddir()
        mounts = [Mount(path, path) for path in dict.fromkeys((SOURCE_ROOT, builddir))]
        with Lab(mounts=mounts) as lab:
            self.assertFalse(lab.run(["sh", "-c", "command -v thawctl"]).ok)
            done = lab.run(["bash", "-ec", install_steps(builddir)], timeout=120)
            self.assertTrue(done.ok, f"{done}\n{lab.journal_text('-n', '80')}")
            for daemon in DAEMONS:
                state = unit(lab, f"thaw-{daemon}.service", "ActiveState", "UnitFileState")
                self.assertEqual((state["ActiveState"], state["UnitFileState"]),
                                 ("active", "enabled"), daemon)
            listed = lab.run(["thawctl", "list"])
            self.assertTrue(listed.ok, str(listed))


if __name__ == "__main__":
    unittest.main()
