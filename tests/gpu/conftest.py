"""GPU tests share the seeded release of the unit tests, and the portrait and motion of the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "unit"), str(ROOT / "benchmarks")]
