"""Interpolation curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def smoothstep(value: npt.ArrayLike, start: Any = 0.0, end: Any = 1.0, dtype: Any = np.float32) -> Any:
    """Return 0 before ``start``, 1 after ``end`` and 3u² - 2u³ between, computed in ``dtype``."""
    u = np.clip((np.asarray(value, dtype) - start) / (end - start), 0, 1)
    return np.asarray(u * u * (3 - 2 * u), dtype)
