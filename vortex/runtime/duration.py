"""Durations as people read them."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Return a duration as text, such as "40 s", "8 min" or "3 h 10 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
