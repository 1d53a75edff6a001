"""When each stage ran, as a Gantt picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vortex.errors import InputError

_COLOURS = ("#16425b", "#2a9d5c", "#d1495b", "#edae49", "#7768ae", "#3a7ca5", "#8d6a4f", "#5b8e7d")


def check_picture_path(path: Path) -> None:
    """Make sure, before any work starts, that a PNG can be written.

    Raises:
        InputError: not a .png name, or no such folder.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"The timeline '{path}' does not end in .png; vortex draws PNG.")
    if not path.parent.is_dir():
        raise InputError(f"The folder '{path.parent}' does not exist. Create it first, or write elsewhere.")


def plot_timeline(path: Path, spans_s: Mapping[str, tuple[float, float]], title: str = "") -> None:
    """Draw one bar for each stage (start, end in seconds), in order of start, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(spans_s.items(), key=lambda row: row[1])
    whole_s = max((end_s for _, (_, end_s) in rows), default=1.0)
    figure = Figure(figsize=(9, 0.9 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for row, (_, (start_s, end_s)) in enumerate(rows):
        axes.barh(row, end_s - start_s, left=start_s, height=0.62, color=_COLOURS[row % len(_COLOURS)])
        # beside its bar, where there is room: to the right, to the left, or else inside
        gap_s = 0.006 * whole_s
        at_s, side, colour = end_s + gap_s, "left", "black"
        if end_s > 0.9 * whole_s and start_s > 0.1 * whole_s:
            at_s, side = start_s - gap_s, "right"
        elif end_s > 0.9 * whole_s:
            at_s, side, colour = end_s - gap_s, "right", "white"
        label = f"{end_s - start_s:.2f} s"
        axes.text(at_s, row, label, va="center", ha=side, color=colour, fontsize="small")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set(xlim=(0, whole_s * 1.02), xlabel="seconds", title=title)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)
