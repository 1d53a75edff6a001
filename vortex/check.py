"""Lip-sync measured on a finished video: the lips by landmarks, the speech by its sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vortex.audio import load_audio
from vortex.errors import NoFaceError
from vortex.lipsync.recognize import recognize_visemes
from vortex.lipsync.visemes import mouth_shape
from vortex.portrait import iter_landmarks
from vortex.types import VISEMES, Audio, PhonemeSpan, VisemeTrack, frame_count, read_only
from vortex.video import iter_video_frames, video_fps

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

REACH_S = 0.6
"""Offsets are looked for up to this."""
CLOSURE_TOLERANCE_FRAMES = 2
SHUT_SHARE = 0.25
"""Lips nearer than this share of their widest (95th percentile) opening count as closed."""
MIN_CORRELATION = 0.4
"""Below this the mouth does not follow the speech at any offset."""
MIN_FACE_SHARE = 0.5

_INNER_LIPS = (13, 14)
_OUTER_EYES = (33, 263)
_STEADY = [33, 133, 263, 362, 168, 6]
"""Eye corners and the bridge of the nose: what moves there from frame to frame is the head, or jitter."""


@dataclass(frozen=True, slots=True, eq=False)
class MouthTrack:
    """``opening`` (T,) float32: distance of the inner lips in outer-eye widths, NaN without a face; ``fps``.

    ``jitter`` is the root mean square of the second difference of steady landmarks, in outer-eye widths.
    """

    opening: F32
    jitter: float
    fps: Fraction

    def __post_init__(self) -> None:
        """Make the array read-only."""
        object.__setattr__(self, "opening", read_only(self.opening, np.float32))

    @property
    def face_share(self) -> float:
        """Share of frames with a face."""
        return float(np.isfinite(self.opening).mean()) if len(self.opening) else 0.0


@dataclass(frozen=True, slots=True)
class SyncReport:
    """Lip-sync of one video. ``offset_ms`` > 0: the picture is late. Times in seconds.

    ``correlation`` is that of lip opening and speech at the offset; ``still_in_silence`` the share of silent
    frames in which the lips rest; ``jitter`` as in :class:`MouthTrack`.
    """

    frames: int
    fps: Fraction
    face_share: float
    offset_frames: float
    offset_ms: float
    correlation: float
    closures_found_s: tuple[float, ...]
    closures_missed_s: tuple[float, ...]
    still_in_silence: float | None
    jitter: float

    def complaints(self, max_offset_frames: float) -> list[str]:
        """Return what is wrong, in words; empty if the video is in sync."""
        found = []
        if self.face_share < MIN_FACE_SHARE:
            found.append(f"a face in only {self.face_share:.0%} of the frames")
        if self.correlation < MIN_CORRELATION:
            found.append(f"the mouth does not follow the speech (correlation {self.correlation:.2f})")
        elif abs(self.offset_frames) > max_offset_frames:
            side = "late" if self.offset_frames > 0 else "early"
            found.append(f"the picture is {abs(self.offset_frames):.1f} frames {side}")
        return found


def check_video(
    path: str | Path, *, transcript: str | None = None, phonemes: Sequence[PhonemeSpan] | None = None
) -> tuple[SyncReport, MouthTrack, Audio]:
    """Measure the lip-sync of any video with one talking face; return report, lips and sound.

    ``transcript`` (English) makes the speech side more exact, ``phonemes`` fully so.

    Raises:
        InputError, AudioError: not a video with sound.
        NoFaceError: no face in any frame.
    """
    path = Path(path)
    mouth = measure_mouth(path)
    audio = load_audio(path)
    visemes = recognize_visemes(audio, mouth.fps, transcript=transcript, phonemes=phonemes)
    return compare(mouth, visemes), mouth, audio


def measure_mouth(path: Path) -> MouthTrack:
    """Follow the lips through a video.

    Raises:
        InputError: not a video.
        NoFaceError: no face in any frame.
    """
    fps = video_fps(path)
    openings, widths, steady = [], [], []
    for points in iter_landmarks(iter_video_frames(path)):
        if points is None:
            openings.append(np.nan)
            steady.append(np.full((len(_STEADY), 2), np.nan))
            continue
        widths.append(float(np.linalg.norm(np.subtract(*points[list(_OUTER_EYES), :2]))))
        openings.append(float(np.linalg.norm(np.subtract(*points[list(_INNER_LIPS), :2]))) / widths[-1])
        steady.append(points[_STEADY, :2].astype(np.float64))
    opening = np.array(openings, np.float32)
    if not np.isfinite(opening).any():
        raise NoFaceError(
            f"No face found in any frame of '{path}'. Give a video of a face towards the camera."
        )
    bend = np.diff(np.array(steady), n=2, axis=0)
    bend = bend[np.isfinite(bend)]
    jitter = float(np.sqrt((bend**2).mean()) / np.median(widths)) if len(bend) else 0.0
    return MouthTrack(opening, jitter, fps)


def compare(mouth: MouthTrack, visemes: VisemeTrack) -> SyncReport:
    """Return how well the lips of a video follow its speech; both at the same frame rate."""
    frames = min(len(mouth.opening), len(visemes.weights))
    opening = _without_gaps(mouth.opening[:frames].astype(np.float64))
    weights = visemes.weights[:frames]
    offset, correlation = _offset(opening, mouth_shape(weights)[:, 0].astype(np.float64), mouth.fps)
    shut_below = SHUT_SHARE * float(np.percentile(opening, 95))
    found, missed = _closures(opening, weights, shut_below)
    silent = weights[:, VISEMES.index("sil")] > 0.95
    silent[:2] = False
    rest = np.abs(np.diff(opening, prepend=opening[:1])) < 0.01
    middle_s = lambda row: round(float((row + 0.5) / mouth.fps), 3)  # noqa: E731
    return SyncReport(
        frames=len(mouth.opening),
        fps=mouth.fps,
        face_share=mouth.face_share,
        offset_frames=offset,
        offset_ms=float(1000 * offset / mouth.fps),
        correlation=correlation,
        closures_found_s=tuple(map(middle_s, found)),
        closures_missed_s=tuple(map(middle_s, missed)),
        still_in_silence=float(rest[silent].mean()) if silent.any() else None,
        jitter=mouth.jitter,
    )


def _without_gaps(opening: F64) -> F64:
    """Fill frames without a face by the line between their neighbours."""
    known = np.isfinite(opening)
    rows = np.arange(len(opening))
    return np.asarray(np.interp(rows, rows[known], opening[known]))


def _offset(opening: F64, expected: F64, fps: Fraction) -> tuple[float, float]:
    """Return (frames by which the lips are late, correlation there), by a parabola through the best three."""
    reach = min(frame_count(REACH_S, fps), max(len(opening) // 3, 1))
    scores = np.array([_correlation(opening, expected, lag) for lag in range(-reach, reach + 1)])
    best = int(scores.argmax())
    if not 0 < best < 2 * reach:
        return float(best - reach), float(scores[best])
    before, here, after = scores[best - 1 : best + 2]
    bend = before - 2 * here + after
    part = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float(best - reach + part), float(here)


def _correlation(opening: F64, expected: F64, lag: int) -> float:
    """Return the correlation of opening(t + lag) with expected(t); 0 if either is constant."""
    a = opening[max(lag, 0) : len(opening) + min(lag, 0)]
    b = expected[max(-lag, 0) : len(expected) + min(-lag, 0)]
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 1e-9 else 0.0


def _closures(opening: F64, weights: F32, shut_below: float) -> tuple[list[int], list[int]]:
    """Return the frames of the closures of p, b, m that are seen, and of those that are not."""
    closing = weights[:, VISEMES.index("PP")] > 0.5
    edges = np.flatnonzero(np.diff(closing.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    found: list[int] = []
    missed: list[int] = []
    for start, end in edges.tolist():
        near = opening[max(start - CLOSURE_TOLERANCE_FRAMES, 0) : end + CLOSURE_TOLERANCE_FRAMES]
        (found if near.min() < shut_below else missed).append((start + end - 1) // 2)
    return found, missed


def plot_sync(path: Path, report: SyncReport, mouth: MouthTrack, audio: Audio) -> None:
    """Draw the lip opening over the waveform, closures marked, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    time_s = (np.arange(len(mouth.opening)) + 0.5) / float(mouth.fps)
    figure = Figure(figsize=(max(8.0, min(0.8 * float(time_s[-1]), 40.0)), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    step = max(len(audio.samples) // 8000, 1)
    whole = audio.samples[: len(audio.samples) // step * step].reshape(-1, step)
    sound_s = (np.arange(len(whole)) + 0.5) * step / audio.sample_rate
    top = float(np.nanmax(mouth.opening)) * 1.1
    loud = float(np.abs(whole).max())
    low, high = (top * (0.5 + 0.45 * edge / loud) for edge in (whole.min(axis=1), whole.max(axis=1)))
    axes.fill_between(sound_s, low, high, color="#c9d3df", linewidth=0, label="sound")
    axes.plot(time_s, mouth.opening, color="#16425b", label="opening of the lips")
    for times, color, label in (
        (report.closures_found_s, "#2a9d5c", "p b m closed"),
        (report.closures_missed_s, "#d1495b", "p b m missed"),
    ):
        for index, at_s in enumerate(times):
            axes.axvline(at_s, color=color, linewidth=1, label=label if index == 0 else None)
    axes.set(
        xlim=(0, time_s[-1]), ylim=(0, top), xlabel="seconds", ylabel="outer-eye widths",
        title=f"offset {report.offset_ms:+.0f} ms, correlation {report.correlation:.2f}",
    )  # fmt: skip
    axes.legend(loc="upper right", ncols=4, fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
