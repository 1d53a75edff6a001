"""Examples that the documentation shows, for tests that use exactly these."""

from __future__ import annotations

import re

from support.paths import ROOT


def python_block(page: str, heading: str) -> str:
    """Return the first Python block below a heading of ``docs/PAGE``."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    below = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.M)
    assert len(below) == 2, f"docs/{page} has no heading {heading!r}"
    block = re.search(r"^```python\n(.*?)^```$", below[1], re.M | re.S)
    assert block is not None, f"docs/{page} shows no Python below {heading!r}"
    return block[1]
