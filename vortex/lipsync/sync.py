"""Lip-sync measured on a finished video: lip opening from landmarks, against the phonemes of the sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vortex.errors import NoFaceError
from vortex.face.landmarks import INNER_LIPS, OUTER_EYE_CORNERS, STEADY
from vortex.face.portrait import iter_landmarks
from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.recognize import recognize_phonemes
from vortex.lipsync.visemes import ARTICULATIONS, SILENCE, check_spans, coarticulate, mouth_shape
from vortex.media.audio import load_video_sound
from vortex.media.reading import FALLBACK_FPS, is_steady, iter_timed_frames, probe_video
from vortex.runtime.files import whole_file
from vortex.types import F32, F64, MAX_OFFSET_FRAMES, Audio, PhonemeSpan, frame_count, read_only

MAX_OFFSET_S = 0.6
"""Largest offset that is measured, in both directions."""
FAR_OFFSET_S = 1.5
"""How far the search goes to tell an offset that is too large from a mouth that follows nothing."""
FAR_CORRELATION, FAR_GAIN = 0.5, 0.15
"""Least correlation beyond the reach, and how much better it must be than the best one within."""
CLOSURE_TOLERANCE_FRAMES = 2
SHUT_SHARE = 0.25
"""Lips count as closed below this share of their 95th percentile of opening."""
MIN_CORRELATION = 0.4
"""Below this correlation the mouth does not follow the speech at any offset.

Real mouths reached 0.56 with their own speech, and up to 0.37 with that of others in 7 to 20 s.
"""
SYLLABLE_S = 0.5
"""What changes more slowly than in a moving mean of this length says nothing about syllables.

Without it, speech backwards and other people's speech correlate with a mouth by their pauses.
"""
SILENCE_MARGIN_S = 0.15
"""Lips may move this long before the first sound and after the last one."""
MIN_SILENCE_S = 0.5
"""With less silence in a video, nothing is said about it."""
MAX_REST_SPEED = 0.24
"""Lips rest if they open or close more slowly than this, in outer-eye widths a second, ..."""
REST_FRAMES = 2
"""... also in so many frames before and after."""
MIN_STILL_SHARE = 0.4
MIN_FACE_SHARE = 0.5
MIN_RANGE = 0.035
"""Least range of opening, 5th to 95th percentile, in outer-eye widths; people who talk reach 0.13 to 0.3."""
MAX_NERVOUSNESS = 350.0
"""Largest root mean square acceleration of the lips, in their own ranges per s^2; people reach 100 to 240."""
MAX_MISSED_SHARE = {"phonemes": 0.15, "transcript": 0.15, "sound": 0.3}
"""Largest share of missed closures that is no complaint, by what the closures are known from."""
MAX_GAP_S = 0.25
"""Frames further apart than this do not move: the picture was frozen between them."""

Evidence: TypeAlias = Literal["phonemes", "transcript", "sound"]
"""What the sounds of a video are known from."""
Verdict: TypeAlias = Literal["good", "doubtful", "bad"]


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

    Args:
        correlation: of lip opening and speech at this offset, from syllable to syllable.
        beyond_reach: the mouth follows the speech, but further off than :data:`MAX_OFFSET_S`; the offset is
            then the best one within.
        spoken_s: how long speech sounds, in seconds.
        closures_found_s: times of the p, b and m whose closure is seen.
        closures_missed_s: times of those whose closure is not seen.
        evidence: what they are known from: given phonemes, an aligned transcript, or the bare sound.
        certainty: how sure these phonemes are, in [0, 1]; 1 for given ones.
        still_in_silence: share of silent frames in which the lips rest, None without enough silence.
        opening_range: of the inner lips, 5th to 95th percentile, in outer-eye widths.
        nervousness: root mean square acceleration of the lips, in their own ranges per s^2.
        jitter: as in :class:`MouthTrack`.
        max_offset_frames: lips up to this much off are no complaint.
    """

    frames: int
    fps: Fraction
    face_share: float
    offset_frames: float
    offset_ms: float
    correlation: float
    beyond_reach: bool
    spoken_s: float
    closures_found_s: tuple[float, ...]
    closures_missed_s: tuple[float, ...]
    evidence: Evidence
    certainty: float
    still_in_silence: float | None
    opening_range: float
    nervousness: float
    jitter: float

    max_offset_frames: float = MAX_OFFSET_FRAMES

    @property
    def verdict(self) -> Verdict:
        """Bad without sync, doubtful with other complaints, else good."""
        if self._sync_complaints():
            return "bad"
        return "doubtful" if self._movement_complaints() else "good"

    def as_json(self) -> dict[str, Any]:
        """Return values that JSON can hold, with the complaints and the verdict."""
        judged = {"complaints": self.complaints(), "verdict": self.verdict}
        return {**asdict(self), "fps": str(self.fps), **judged}

    def complaints(self) -> list[str]:
        """Return one sentence for each thing that is wrong; none if the video is in sync."""
        return self._sync_complaints() + self._movement_complaints()

    def _sync_complaints(self) -> list[str]:
        """Return whether a face speaks, and at the right time."""
        found = []
        if self.face_share < MIN_FACE_SHARE:
            found.append(f"a face in only {self.face_share:.0%} of the frames")
        if self.beyond_reach:
            reach_ms = 1000 * MAX_OFFSET_S
            found.append(f"the picture is more than {reach_ms:.0f} ms early or late, beyond what is measured")
        elif self.spoken_s == 0:
            found.append("no speech is heard in the sound")
        elif self.correlation < MIN_CORRELATION:
            found.append(f"the mouth does not follow the speech (correlation {self.correlation:.2f})")
        elif abs(self.offset_frames) > self.max_offset_frames:
            side = "late" if self.offset_frames > 0 else "early"
            found.append(f"the picture is {abs(self.offset_frames):.1f} frames {side}")
        return found

    def _movement_complaints(self) -> list[str]:
        """Return whether the lips close, rest and move as those of a person."""
        found = []
        missed = len(self.closures_missed_s)
        total = missed + len(self.closures_found_s)
        # Of a closure that is only heard, one may be an error of the recogniser.
        if missed > max(MAX_MISSED_SHARE[self.evidence] * total, self.evidence == "sound"):
            found.append(f"{missed} of {total} closures of p, b, m are missed")
        if self.still_in_silence is not None and self.still_in_silence < MIN_STILL_SHARE:
            found.append(f"the lips move in {1 - self.still_in_silence:.0%} of the silence")
        if self.opening_range < MIN_RANGE:
            found.append(f"the mouth hardly moves (by {self.opening_range:.3f} outer-eye widths)")
        elif self.nervousness > MAX_NERVOUSNESS:
            found.append(f"the mouth is nervous (acceleration {self.nervousness:.0f} ranges per s^2)")
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
    mouth, start_s = measure_mouth(Path(video))
    audio = load_video_sound(Path(video), ACOUSTIC_HZ, start_s)
    if phonemes is not None:
        report = compare(mouth, check_spans(phonemes))
    else:
        heard = recognize_phonemes(audio.samples, transcript)
        evidence: Evidence = "sound" if transcript is None or heard.notes else "transcript"
        report = compare(mouth, heard.spans, evidence, heard.certainty)
    return SyncMeasurement(replace(report, max_offset_frames=max_offset_frames), mouth, audio)


def measure_mouth(path: Path) -> tuple[MouthTrack, float]:
    """Return the lips of a video at a steady rate, and the time of its first frame on the clock of the file.

    InputError: not a video; NoFaceError: no face in any frame.
    """
    average = probe_video(path).fps
    times_s: list[float] = []

    def frames() -> Any:
        for time_s, frame in iter_timed_frames(path):
            times_s.append(time_s)
            yield frame

    openings, widths, steady = [], [], []
    for points in iter_landmarks(frames()):
        if points is None:
            openings.append(np.nan)
            steady.append(np.full((len(STEADY), 2), np.nan))
            continue
        widths.append(float(np.linalg.norm(np.subtract(*points[list(OUTER_EYE_CORNERS), :2]))))
        openings.append(float(np.linalg.norm(np.subtract(*points[list(INNER_LIPS), :2]))) / widths[-1])
        steady.append(points[STEADY, :2].astype(np.float64))
    if not widths:
        raise NoFaceError(
            f"No face found in any frame of '{path}'. Give a video of a face towards the camera."
        )
    change = np.diff(np.array(steady), n=2, axis=0)
    change = change[np.isfinite(change)]
    jitter = float(np.sqrt((change**2).mean()) / np.median(widths)) if len(change) else 0.0
    opening, fps = at_steady_rate(np.array(openings), np.array(times_s), average)
    return MouthTrack(opening, jitter, fps), times_s[0]


def at_steady_rate(opening: F64, times_s: F64, average: Fraction | None) -> tuple[F32, Fraction]:
    """Return what is measured in frames shown at ``times_s`` (T,) at a steady rate, and this rate.

    The rate is ``average`` if it is steady. Else it is that of most frames; what lies between two frames is
    interpolated, and in a gap of more than :data:`MAX_GAP_S` the frame before it stays.
    """
    if len(times_s) < 2 or (average and is_steady(times_s, average)):
        return opening.astype(np.float32), average or FALLBACK_FPS
    shown_s = times_s - times_s[0]
    step_s = float(np.median(np.diff(shown_s)))
    fps = Fraction(round(1 / step_s)) if step_s < 1 else FALLBACK_FPS
    at_s = np.arange(max(round((shown_s[-1] + step_s) * float(fps)), 1)) / float(fps)
    after = np.clip(np.searchsorted(shown_s, at_s, side="right"), 1, len(shown_s) - 1)
    share = np.clip((at_s - shown_s[after - 1]) / (shown_s[after] - shown_s[after - 1]), 0, 1)
    frozen = shown_s[after] - shown_s[after - 1] > MAX_GAP_S
    share[frozen] = np.floor(share[frozen])
    between = opening[after - 1] * (1 - share) + opening[after] * share
    # At a frame, a missing neighbour does not count.
    exact = np.where(share == 0, opening[after - 1], np.where(share == 1, opening[after], between))
    return exact.astype(np.float32), fps


def compare(
    mouth: MouthTrack,
    spans: Sequence[PhonemeSpan],
    evidence: Evidence = "phonemes",
    certainty: float = 1.0,
) -> SyncReport:
    """Return how well the lips of a video follow the sounds ``spans``, known as surely as ``certainty``."""
    frames, fps = len(mouth.opening), float(mouth.fps)
    opening, rows = mouth.opening.astype(np.float64), np.arange(frames)
    known = np.isfinite(opening)
    opening = np.interp(rows, rows[known], opening[known])
    expected = mouth_shape(coarticulate(spans, frames, mouth.fps))[:, 0].astype(np.float64)
    offset, correlation, beyond = _offset(_syllables(opening, fps), _syllables(expected, fps), mouth.fps)
    low, high = np.percentile(opening, [5, 95])
    # Where the lips are when they speak the sound that is heard.
    in_time = np.interp(rows + offset, rows, opening)
    found, missed = _closures(in_time, spans, fps, SHUT_SHARE * float(high))
    silent = _silent_frames(spans, frames, fps)
    speed = np.pad(np.abs(np.diff(in_time, prepend=in_time[:1])) * fps, REST_FRAMES)
    fastest = np.lib.stride_tricks.sliding_window_view(speed, 2 * REST_FRAMES + 1).max(axis=1)
    bend = np.diff(opening, n=2)
    acceleration = float(np.sqrt((bend**2).mean())) * fps**2 if len(bend) else 0.0
    return SyncReport(
        frames=frames,
        fps=mouth.fps,
        face_share=mouth.face_share,
        offset_frames=offset,
        offset_ms=1000 * offset / fps,
        correlation=correlation,
        beyond_reach=beyond,
        spoken_s=sum(span.end_s - span.start_s for span in spans if span.phoneme != SILENCE),
        closures_found_s=found,
        closures_missed_s=missed,
        evidence=evidence,
        certainty=certainty,
        still_in_silence=(
            float((fastest[silent] < MAX_REST_SPEED).mean()) if silent.sum() >= MIN_SILENCE_S * fps else None
        ),
        opening_range=float(high - low),
        nervousness=acceleration / max(float(high - low), 1e-6),
        jitter=mouth.jitter,
    )


def _syllables(curve: F64, fps: float) -> F64:
    """Return a curve (T,) without its moving mean over :data:`SYLLABLE_S`."""
    half = round(SYLLABLE_S * fps / 2)
    window = 2 * half + 1
    return curve - np.convolve(np.pad(curve, half, mode="edge"), np.ones(window) / window, "valid")


def _offset(opening: F64, expected: F64, fps: Fraction) -> tuple[float, float, bool]:
    """Return by how many frames the lips are late, to a fraction by a parabola, and the correlation there.

    And whether they follow much better beyond :data:`MAX_OFFSET_S`.
    """
    reach, far = (
        min(frame_count(seconds, fps), max(len(opening) // 3, 1)) for seconds in (MAX_OFFSET_S, FAR_OFFSET_S)
    )
    scores = np.array([_correlation(opening, expected, lag) for lag in range(-far, far + 1)])
    near = scores[far - reach : far + reach + 1]
    best = int(near.argmax())
    peak = float(near[best])
    beyond = bool(scores.max() >= max(FAR_CORRELATION, peak + FAR_GAIN))
    if not 0 < best < 2 * reach:
        return float(best - reach), peak, beyond
    before, after = near[best - 1], near[best + 1]
    curvature = before - 2 * peak + after
    fraction = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return float(best - reach + fraction), peak, beyond


def _correlation(opening: F64, expected: F64, lag: int) -> float:
    """Return the correlation of opening(t + lag) with expected(t); 0 if either is constant."""
    a = opening[max(lag, 0) : len(opening) + min(lag, 0)]
    b = expected[max(-lag, 0) : len(expected) + min(-lag, 0)]
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 1e-9 else 0.0


def _closures(
    opening: F64, spans: Sequence[PhonemeSpan], fps: float, shut_below: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the times in seconds of the p, b, m whose closure is seen, and of those whose is not.

    Neighbours, such as the m and b of "number", are one closure.
    """
    found: list[float] = []
    missed: list[float] = []
    closing = [span for span in spans if ARTICULATIONS[span.phoneme].closes == "lips"]
    merged: list[tuple[float, float]] = []
    for span in closing:
        if merged and span.start_s - merged[-1][1] < 1 / fps:
            merged[-1] = (merged[-1][0], span.end_s)
        elif span.start_s < len(opening) / fps:
            merged.append((span.start_s, span.end_s))
    for start_s, end_s in merged:
        first, last = int(start_s * fps), min(int(end_s * fps), len(opening) - 1)
        near = opening[max(first - CLOSURE_TOLERANCE_FRAMES, 0) : last + CLOSURE_TOLERANCE_FRAMES + 1]
        (found if near.min() < shut_below else missed).append(round((start_s + end_s) / 2, 3))
    return tuple(found), tuple(missed)


def _silent_frames(spans: Sequence[PhonemeSpan], frames: int, fps: float) -> npt.NDArray[np.bool_]:
    """Return (T,) True in the frames that are further than :data:`SILENCE_MARGIN_S` from any sound."""
    silent = np.ones(frames, np.bool_)
    for span in spans:
        if span.phoneme != SILENCE:
            first, end = span.start_s - SILENCE_MARGIN_S, span.end_s + SILENCE_MARGIN_S
            silent[max(int(first * fps), 0) : max(int(np.ceil(end * fps)), 0)] = False
    silent[:1] = False
    return silent


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
