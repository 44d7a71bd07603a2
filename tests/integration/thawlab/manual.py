# SPDX-License-Identifier: MIT
"""Examples of the man pages, as they are printed there, for tests that run them."""

import os
import re

from .build import SOURCE_ROOT

_ESCAPES = {r"\-": "-", r"\e": "\\", r"\(aq": "'", r"\&": ""}


def _plain(text):
    return re.sub(r"\\\(aq|\\[-e&]", lambda m: _ESCAPES[m.group()], text)


def examples(page, heading):
    """The examples (.nf to .fi) below a heading of docs/man/PAGE.in, in order."""
    with open(os.path.join(SOURCE_ROOT, "docs", "man", f"{page}.in"), encoding="utf-8") as file:
        text = file.read()
    section = re.search(rf"^\.S[HS] {re.escape(heading)}\n(.*?)(?=^\.S[HS] |\Z)", text,
                        re.MULTILINE | re.DOTALL)
    if section is None:
        raise ValueError(f"{page} has no heading {heading!r}")
    return [_plain(block) for block in
            re.findall(r"^\.nf\n(.*?)^\.fi$", section.group(1), re.MULTILINE | re.DOTALL)]
