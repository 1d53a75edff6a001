"""Score the speech recognition that drives the lips, on recordings with known phone times.

Usage: python benchmarks/lipsync.py [FOLDER] [--stream] [--liveportrait] [--check BASELINE]
       python benchmarks/lipsync.py [FOLDER] --hard
       python benchmarks/lipsync.py FOLDER --videos PORTRAIT...

FOLDER holds clips (wav or flac) with ``<clip>.json`` beside each, a list of {start_s, end_s, phone} in
ARPAbet, and optionally ``manifest.json`` with {name, text}. Without FOLDER, the demo recording is scored. The
figures are equal on every machine up to rounding.

``--hard`` scores bare audio that is spoiled with a fixed seed: noise, music, telephone, echo, shouting,
whisper, haste. ``backwards`` plays the clips in reverse: a voice, but no language and no labels; the opening
of the jaw is correlated with the loudness of the syllables (below 8 Hz).

``--videos`` renders each clip with each portrait with the mesh engine, from bare audio, and measures the
finished videos on their pixels against the true phones. Exit status 1 if an offset is above one frame or
fewer than nine closures in ten are found.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from compare import keep
from harness import ROOT, make_parser, record

import vortex
from vortex.lipsync.recognize import recognize_visemes
from vortex.lipsync.stream import VisemeStream
from vortex.lipsync.sync import measure_sync
from vortex.lipsync.visemes import mouth_shape
from vortex.media.audio import load_audio
from vortex.motion.drive import drive
from vortex.motion.measures import MEASURE_INDEX, measure_motion
from vortex.types import Audio, PhonemeSpan, VisemeTrack

FPS = Fraction(24)
TOLERANCE_FRAMES = 2
BILABIALS = ("P", "B", "M")
LABIODENTALS = ("F", "V")
OPEN_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "EY", "OW", "OY")
Clip = tuple[str, Path, list[PhonemeSpan], str]
Curve = npt.NDArray[np.floating[Any]]


def main() -> int:
    """Score what the options ask for; print, keep and check the record."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--stream", action="store_true", help="score the stream, too")
    parser.add_argument(
        "--liveportrait", action="store_true", help="score the curve that drives its lips, too"
    )
    parser.add_argument("--hard", action="store_true", help="score spoiled recordings")
    parser.add_argument("--videos", type=Path, nargs="+", metavar="PORTRAIT", help="measure finished videos")
    args = parser.parse_args()
    chosen = read_clips(args.folder)
    params = {"clips": [name for name, *_ in chosen], "fps": str(FPS)}
    if args.videos:
        figures = measure_videos(chosen, args.videos)
        params = {"clips": params["clips"], "portraits": [path.stem for path in args.videos]}
        status = keep(record("lipsync_videos", engine="mesh", params=params, figures=figures), args)
        return status or int(figures["lag_frames_worst"] > 1 or figures["closure_recall"] < 0.9)
    if args.hard:
        # Imported here, as it needs scipy, which the base does not bring.
        from spoil import CONDITIONS, PACE, backwards, spoiled

        hard = {
            name: evaluate(chosen, "audio", partial(spoiled, name), PACE.get(name, 1.0))
            for name in CONDITIONS
        }
        hard["backwards"] = {"syllable_correlation": backwards([path for _, path, *_ in chosen], FPS)}
        return keep(record("lipsync_robustness", engine=None, params=params, figures=hard), args)
    kinds = ["audio"] + ["transcript"] * all(text for *_, text in chosen) + ["stream"] * args.stream
    clean = {kind: evaluate(chosen, kind) for kind in [*kinds, *["liveportrait"] * args.liveportrait]}
    return keep(record("lipsync", params=params, figures=clean), args)


def read_clips(folder: Path | None) -> list[Clip]:
    """Return name, recording, true phones and text of each clip."""
    if folder is None:
        speech = ROOT / "vortex" / "data" / "demo_speech.flac"
        labels = ROOT / "tests" / "data" / "speech" / "demo_speech.json"
        return [("demo_speech", speech, _phones(labels), speech.with_suffix(".txt").read_text())]
    manifest = folder / "manifest.json"
    texts = {m["name"]: m["text"] for m in json.loads(manifest.read_text())} if manifest.exists() else {}
    sounds = sorted([*folder.glob("*.wav"), *folder.glob("*.flac")])
    return [(p.stem, p, _phones(p.with_suffix(".json")), texts.get(p.stem, "")) for p in sounds]


def _phones(path: Path) -> list[PhonemeSpan]:
    """Return the labelled sounds; a glottal stop (Q) is invisible and counts as silence."""
    rows = json.loads(path.read_text())
    return [PhonemeSpan("SIL" if r["phone"] == "Q" else r["phone"], r["start_s"], r["end_s"]) for r in rows]


def evaluate(
    chosen: Sequence[Clip], front_end: str, load: Callable[[Path], Audio] = load_audio, pace: float = 1.0
) -> dict[str, float]:
    """Return the figures of one front end, see :func:`recognize`; ``pace`` scales the times of the labels."""
    sums: Counter[str] = Counter()
    lags, correlations = [], []
    for _, path, labels, text in chosen:
        truth = [PhonemeSpan(span.phoneme, span.start_s * pace, span.end_s * pace) for span in labels]
        audio = load(path)
        track, true_track = recognize(audio, front_end, text), recognize_visemes(audio, FPS, phonemes=truth)
        opening = liveportrait_opening if front_end == "liveportrait" else jaw_opening
        lag, correlation = lag_and_correlation(opening(track), opening(true_track))
        lags.append(lag)
        correlations.append(correlation)
        sums.update(score(opening(track), truth))
    recall = sums["hits"] / max(sums["closures"], 1)
    precision = 1 - sums["false"] / max(sums["events"], 1)
    return {
        "closure_f1": 2 * recall * precision / max(recall + precision, 1e-9),
        "closure_recall": recall,
        "closure_precision": precision,
        "jaw_correlation": float(np.mean(correlations)),
        "lag_frames": float(np.median(lags)),
        # Clips without a pause or an open vowel cannot be wrong there.
        "silence": sums["silent_ok"] / sums["silent"] if sums["silent"] else 1.0,
        "speech": sums["vowel_ok"] / sums["vowel"] if sums["vowel"] else 1.0,
    }


def recognize(audio: Audio, front_end: str, text: str) -> VisemeTrack:
    """Return the visemes by one front end: "audio", "transcript", or "stream", in chunks of 20 ms.

    "liveportrait" recognises as "audio" does, and is scored on the curve that drives the lips of that engine.
    """
    if front_end != "stream":
        return recognize_visemes(audio, FPS, transcript=text if front_end == "transcript" else None)
    stream, step = VisemeStream(FPS, audio.sample_rate), audio.sample_rate // 50
    tracks = [stream.push(audio.samples[i : i + step]) for i in range(0, len(audio.samples), step)]
    tracks.append(stream.finish())
    weights, loudness = zip(*((track.weights, track.loudness) for track in tracks), strict=True)
    return VisemeTrack(np.concatenate(weights), np.concatenate(loudness), FPS)


def jaw_opening(track: VisemeTrack) -> Curve:
    """Return (T,): how far the compact mouth opens."""
    return mouth_shape(track.weights)[:, 0]


def liveportrait_opening(track: VisemeTrack) -> Curve:
    """Return (T,): how far the lips that drive LivePortrait are apart, neutral preset; 0 is touching."""
    measures = measure_motion(drive(track, "neutral", 1))
    return measures[:, MEASURE_INDEX["lower_lip"]] - measures[:, MEASURE_INDEX["upper_lip"]]


def score(jaw: Curve, truth: Sequence[PhonemeSpan]) -> dict[str, int]:
    """Return the counts of one clip; ``jaw`` (T,) is the opening at the frame centres."""
    frames = len(jaw)
    shut = jaw < 0.25 * np.percentile(jaw, 95)
    near, silent, vowel = np.zeros((3, frames), bool)
    hits = total = 0
    for span in truth:
        first, last = _frame(span.start_s), _frame(span.end_s)
        window = slice(max(first - TOLERANCE_FRAMES, 0), last + TOLERANCE_FRAMES + 1)
        if span.phoneme in BILABIALS:
            total += 1
            hits += bool(shut[window].any())
        if span.phoneme in (*BILABIALS, *LABIODENTALS, "SIL"):
            near[window] = True
        if span.phoneme == "SIL" and span.end_s - span.start_s > 0.15:
            silent[first + TOLERANCE_FRAMES : max(last - TOLERANCE_FRAMES, 0)] = True
        elif span.phoneme in OPEN_VOWELS:
            vowel[max(first, 0) : last + 1] = True
    vowel &= ~near
    edges = np.flatnonzero(np.diff(shut.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    spoken = [span for span in truth if span.phoneme != "SIL"]
    start, end = _frame(spoken[0].start_s), _frame(spoken[-1].end_s)
    inside = [(a, b) for a, b in edges if start < (a + b) / 2 < end]
    return {
        "hits": hits,
        "closures": total,
        "events": len(inside),
        "false": sum(not near[a:b].any() for a, b in inside),
        "silent_ok": int((shut & silent).sum()),
        "silent": int(silent.sum()),
        "vowel_ok": int((~shut & vowel).sum()),
        "vowel": int(vowel.sum()),
    }


def _frame(time_s: float) -> int:
    """Return the frame whose centre is nearest."""
    return round(time_s * float(FPS) - 0.5)


def lag_and_correlation(jaw: Curve, reference: Curve) -> tuple[float, float]:
    """Return the lag in frames, to a fraction by a parabola, and the correlation there; > 0 is late."""
    reach = 8
    scores = [
        np.corrcoef(jaw[max(k, 0) : len(jaw) + min(k, 0)], reference[max(-k, 0) : len(jaw) + min(-k, 0)])[
            0, 1
        ]
        for k in range(-reach, reach + 1)
    ]
    best = int(np.clip(np.argmax(scores), 1, 2 * reach - 1))
    before, here, after = scores[best - 1 : best + 2]
    bend = before - 2 * here + after
    return best - reach + (0.5 * (before - after) / bend if bend else 0.0), here


def measure_videos(chosen: Sequence[Clip], portraits: Sequence[Path]) -> dict[str, float]:
    """Return the figures of one video for each clip and portrait."""
    reports = []
    with tempfile.TemporaryDirectory() as folder, vortex.Session() as session:
        for portrait in portraits:
            for _, path, truth, _ in chosen:
                out = Path(folder) / "video.mp4"
                vortex.animate(portrait, path, out, force=True, seed=1, session=session)
                reports.append(measure_sync(out, phonemes=truth).report)
    offsets, correlations = [r.offset_frames for r in reports], [r.correlation for r in reports]
    found = sum(len(r.closures_found_s) for r in reports)
    missed = sum(len(r.closures_missed_s) for r in reports)
    return {
        "videos": len(reports),
        "closures": found + missed,
        "closure_recall": found / max(found + missed, 1),
        "lag_frames_worst": float(np.abs(offsets).max()),
        "lag_frames_median": float(np.median(offsets)),
        "correlation_least": min(correlations),
        "correlation_median": float(np.median(correlations)),
    }


if __name__ == "__main__":
    sys.exit(main())
