"""The weights that a benchmark of LivePortrait runs with: the published ones, or seeded random numbers."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import ROOT

from vortex.weights import verify_weights


@contextmanager
def provide_weights(seeded: bool) -> Iterator[str]:
    """Let vortex find the weights, and give their name for the record: "published" or "seeded".

    Seeded ones are those of the tests, written into a temporary folder, 500 MB. They cost the same arithmetic
    and show no face.

    Raises:
        WeightsError: published ones that are not there, or not as published.
    """
    if not seeded:
        verify_weights("liveportrait")
        yield "published"
        return
    sys.path.insert(0, str(ROOT / "tests" / "unit"))
    from liveportrait_release import write_release

    with tempfile.TemporaryDirectory() as folder:
        write_release(Path(folder) / "liveportrait")
        os.environ["VORTEX_CACHE"] = folder
        yield "seeded"
