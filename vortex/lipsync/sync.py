"""Lip-sync measured on a finished video: lip opening from landmarks, against visemes from the sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vortex.errors import NoFaceError
from vortex.face.landmarks import INNER_LIPS, OUTER_EYE_CORNERS, STEADY
from vortex.face.portrait import iter_landmarks
from vortex.lipsync.recognize import recognize_visemes
from vortex.lipsync.visemes import mouth_shape
from vortex.media.audio import load_audio
from vortex.media.reading import iter_video_frames, video_fps
from vortex.runtime.files import whole_file
from vortex.types import F32, F64, MAX_OFFSET_FRAMES, Audio, PhonemeSpan, VisemeTrack, frame_count, read_only
from vortex.visemes import LIP_CLOSING_COLUMNS, SILENT_COLUMN

MAX_OFFSET_S = 0.6
"""Largest offset that is searched for, in both directions."""
CLOSURE_TOLERANCE_FRAMES = 2
SHUT_SHARE = 0.25
"""Lips count as closed below this share of their 95th percentile of opening."""
MIN_CORRELATION = 0.4
"""Below this correlation the mouth does not follow the speech at any offset."""
SILENT_WEIGHT = 0.95
MAX_REST_STEP = 0.01
"""Lips rest if their opening changes by less than this from frame to frame, in outer-eye widths."""
MIN_FACE_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class MouthTrack:
    """The lips of a video: ``opening`` (T,) float32 of the inner lips, NaN without a face.

    ``jitter`` is the RMS of the second difference of steady landmarks. Both are in outer-eye widths.
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
    """Lip-sync of one video; the picture is late if ``offset_ms`` > 0.

    ``correlation`` is that of lip opening and speech at this offset; ``closures_found_s`` and
    ``closures_missed_s`` are the times of the p, b and m whose closure is seen, and is not;
    ``still_in_silence`` is the share of silent frames in which the lips rest, None without such a frame;
    ``jitter`` as in :class:`MouthTrack`. Lips up to ``max_offset_frames`` off are no complaint.
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

    max_offset_frames: float = MAX_OFFSET_FRAMES

    def as_json(self) -> dict[str, Any]:
        """Return values that JSON can hold, with the complaints."""
        return {**asdict(self), "fps": str(self.fps), "complaints": self.complaints()}

    def complaints(self) -> list[str]:
        """Return one sentence for each thing that is wrong; none if the video is in sync."""
        found = []
        if self.face_share < MIN_FACE_SHARE:
            found.append(f"a face in only {self.face_share:.0%} of the frames")
        if self.correlation < MIN_CORRELATION:
            found.append(f"the mouth does not follow the speech (correlation {self.correlation:.2f})")
        elif abs(self.offset_frames) > self.max_offset_frames:
            side = "late" if self.offset_frames > 0 else "early"
            found.append(f"the picture is {abs(self.offset_frames):.1f} frames {side}")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class SyncMeasurement:
    """The lip-sync of a video, with the lips and the sound that it was measured on."""

    report: SyncReport
    mouth: MouthTrack
    audio: Audio


def measure_sync(
    video: str | Path,
    *,
    transcript: str | None = None,
    phonemes: Sequence[PhonemeSpan] | None = None,
    max_offset_frames: float = MAX_OFFSET_FRAMES,
) -> SyncMeasurement:
    """Measure the lip-sync of any video with one talking face.

    ``transcript`` (English words) makes the times of the speech more exact; ``phonemes`` are used as exact
    times. InputError, AudioError: not a video with sound. NoFaceError: no face in any frame.
    """
    mouth, audio = measure_mouth(Path(video)), load_audio(Path(video))
    visemes = recognize_visemes(audio, mouth.fps, transcript=transcript, phonemes=phonemes)
    report = replace(compare(mouth, visemes), max_offset_frames=max_offset_frames)
    return SyncMeasurement(report, mouth, audio)


def measure_mouth(path: Path) -> MouthTrack:
    """Return the lips of all frames; InputError: not a video; NoFaceError: no face in any frame."""
    fps = video_fps(path)
    openings, widths, steady = [], [], []
    for points in iter_landmarks(iter_video_frames(path)):
        if points is None:
            openings.append(np.nan)
            steady.append(np.full((len(STEADY), 2), np.nan))
            continue
        widths.append(float(np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS), :2]))))
        openings.append(float(np.linalg.norm(np.subtract(*points[list(INNER_LIPS), :2]))) / widths[-1])
        steady.append(points[STEADY, :2].astype(np.float64))
    opening = np.array(openings, np.float32)
    if not np.isfinite(opening).any():
        raise NoFaceError(
            f"No face found in any frame of '{path}'. Give a video of a face towards the camera."
        )
    change = np.diff(np.array(steady), n=2, axis=0)
    change = change[np.isfinite(change)]
    jitter = float(np.sqrt((change**2).mean()) / np.median(widths)) if len(change) else 0.0
    return MouthTrack(opening, jitter, fps)


def compare(mouth: MouthTrack, visemes: VisemeTrack) -> SyncReport:
    """Return how well the lips of a video follow its speech; both have the same frame rate."""
    frames = min(len(mouth.opening), len(visemes.weights))
    opening, rows = mouth.opening[:frames].astype(np.float64), np.arange(frames)
    known = np.isfinite(opening)
    opening = np.interp(rows, rows[known], opening[known])
    weights = visemes.weights[:frames]
    offset, correlation = _offset(opening, mouth_shape(weights)[:, 0].astype(np.float64), mouth.fps)
    shut_below = SHUT_SHARE * float(np.percentile(opening, 95))
    found, missed = _closures(opening, weights, shut_below)
    silent = weights[:, SILENT_COLUMN] > SILENT_WEIGHT
    silent[:2] = False
    rest = np.abs(np.diff(opening, prepend=opening[:1])) < MAX_REST_STEP
    found_s, missed_s = (
        tuple(round(float((frame + 0.5) / mouth.fps), 3) for frame in frames) for frames in (found, missed)
    )
    return SyncReport(
        frames=len(mouth.opening),
        fps=mouth.fps,
        face_share=mouth.face_share,
        offset_frames=offset,
        offset_ms=float(1000 * offset / mouth.fps),
        correlation=correlation,
        closures_found_s=found_s,
        closures_missed_s=missed_s,
        still_in_silence=float(rest[silent].mean()) if silent.any() else None,
        jitter=mouth.jitter,
    )


def _offset(opening: F64, expected: F64, fps: Fraction) -> tuple[float, float]:
    """Return by how many frames the lips are late, with a fraction by a parabola, and the correlation."""
    max_lag = min(frame_count(MAX_OFFSET_S, fps), max(len(opening) // 3, 1))
    scores = np.array([_correlation(opening, expected, lag) for lag in range(-max_lag, max_lag + 1)])
    best = int(scores.argmax())
    if not 0 < best < 2 * max_lag:
        return float(best - max_lag), float(scores[best])
    before, peak, after = scores[best - 1 : best + 2]
    curvature = before - 2 * peak + after
    fraction = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return float(best - max_lag + fraction), float(peak)


def _correlation(opening: F64, expected: F64, lag: int) -> float:
    """Return the correlation of opening(t + lag) with expected(t); 0 if either is constant."""
    a = opening[max(lag, 0) : len(opening) + min(lag, 0)]
    b = expected[max(-lag, 0) : len(expected) + min(-lag, 0)]
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 1e-9 else 0.0


def _closures(opening: F64, weights: F32, shut_below: float) -> tuple[list[int], list[int]]:
    """Return the frames of the closures of p, b, m that are seen, and of those that are not."""
    closing = weights[:, LIP_CLOSING_COLUMNS].sum(axis=1) > 0.5
    edges = np.flatnonzero(np.diff(closing.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    found: list[int] = []
    missed: list[int] = []
    for start, end in edges.tolist():
        near = opening[max(start - CLOSURE_TOLERANCE_FRAMES, 0) : end + CLOSURE_TOLERANCE_FRAMES]
        (found if near.min() < shut_below else missed).append((start + end - 1) // 2)
    return found, missed


def plot_sync(path: Path, measured: SyncMeasurement) -> None:
    """Write a PNG of lip opening, waveform and closures of p, b, m, whole or, with OSError, not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    report, mouth, audio = measured.report, measured.mouth, measured.audio
    time_s = (np.arange(len(mouth.opening)) + 0.5) / float(mouth.fps)
    figure = Figure(figsize=(max(8.0, min(0.8 * float(time_s[-1]), 40.0)), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
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
    with whole_file(path) as part:
        figure.savefig(part, dpi=110, format="png")
