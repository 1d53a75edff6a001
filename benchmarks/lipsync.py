"""Score speech-to-viseme front ends on recordings with phone times.

Usage: python benchmarks/lipsync.py [FOLDER] [--stream] [--liveportrait] [--output FILE] [--check BASELINE]

FOLDER holds clips (wav or flac) with ``<clip>.json`` beside each, a list of {start_s, end_s, phone} in
ARPAbet, and optionally ``manifest.json`` with {name, text}. Without FOLDER, the demo recording is scored.
Figures, not times: the same on every machine up to rounding. ``--check`` fails if a figure is worse than the
newest record of the same clips in BASELINE by more than 0.02.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vortex.audio import load_audio
from vortex.engines.liveportrait.retarget import expression_parameters
from vortex.lipsync.recognize import recognize_visemes
from vortex.lipsync.stream import VisemeStream
from vortex.lipsync.visemes import mouth_shape
from vortex.motion.drive import drive
from vortex.types import Audio, PhonemeSpan, VisemeTrack

ROOT = Path(__file__).parents[1]
FPS = Fraction(24)
TOLERANCE_FRAMES = 2
BILABIALS = ("P", "B", "M")
LABIODENTALS = ("F", "V")
OPEN_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "EY", "OW", "OY")
FIGURES = ("closure_f1", "closure_recall", "closure_precision", "jaw_correlation", "silence", "speech")
Clip = tuple[str, Path, list[PhonemeSpan], str]


def clips(folder: Path | None) -> list[Clip]:
    """Return name, recording, true phones and text of each clip."""
    if folder is None:
        speech = ROOT / "vortex" / "data" / "demo_speech.flac"
        labels = ROOT / "tests" / "data" / "speech" / "demo_speech.json"
        return [("demo_speech", speech, phones(labels), speech.with_suffix(".txt").read_text())]
    manifest = folder / "manifest.json"
    texts = {m["name"]: m["text"] for m in json.loads(manifest.read_text())} if manifest.exists() else {}
    sounds = sorted([*folder.glob("*.wav"), *folder.glob("*.flac")])
    return [(p.stem, p, phones(p.with_suffix(".json")), texts.get(p.stem, "")) for p in sounds]


def phones(path: Path) -> list[PhonemeSpan]:
    """Return the labelled sounds; a glottal stop (Q) is invisible and counts as silence."""
    rows = json.loads(path.read_text())
    return [PhonemeSpan("SIL" if r["phone"] == "Q" else r["phone"], r["start_s"], r["end_s"]) for r in rows]


def _frame(time_s: float) -> int:
    """Return the frame whose middle is nearest."""
    return round(time_s * float(FPS) - 0.5)


def score(jaw: npt.NDArray[np.floating[Any]], truth: Sequence[PhonemeSpan]) -> dict[str, float]:
    """Return counts and the correlation of one clip; ``jaw`` (T,) is the opening at the frame centres."""
    frames = len(jaw)
    shut = jaw < 0.25 * np.percentile(jaw, 95)
    near = np.zeros(frames, bool)
    hits = total = 0
    for span in truth:
        window = slice(
            max(_frame(span.start_s) - TOLERANCE_FRAMES, 0), _frame(span.end_s) + TOLERANCE_FRAMES + 1
        )
        if span.phoneme in BILABIALS:
            total += 1
            hits += bool(shut[window].any())
        if span.phoneme in (*BILABIALS, *LABIODENTALS, "SIL"):
            near[window] = True
    edges = np.flatnonzero(np.diff(shut.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    spoken = [span for span in truth if span.phoneme != "SIL"]
    first, last = _frame(spoken[0].start_s), _frame(spoken[-1].end_s)
    inside = [(a, b) for a, b in edges if first < (a + b) / 2 < last]
    false = sum(not near[a:b].any() for a, b in inside)
    silent, vowel = np.zeros(frames, bool), np.zeros(frames, bool)
    for span in truth:
        if span.phoneme == "SIL" and span.end_s - span.start_s > 0.15:
            silent[
                _frame(span.start_s) + TOLERANCE_FRAMES : max(_frame(span.end_s) - TOLERANCE_FRAMES, 0)
            ] = True
        elif span.phoneme in OPEN_VOWELS:
            vowel[max(_frame(span.start_s), 0) : _frame(span.end_s) + 1] = True
    vowel &= ~near
    return {
        "hits": hits,
        "closures": total,
        "events": len(inside),
        "false": false,
        "silent_ok": int((shut & silent).sum()),
        "silent": int(silent.sum()),
        "vowel_ok": int((~shut & vowel).sum()),
        "vowel": int(vowel.sum()),
    }


def lag_and_correlation(
    jaw: npt.NDArray[np.floating[Any]], reference: npt.NDArray[np.floating[Any]]
) -> tuple[float, float]:
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


def hear(audio: Audio, front_end: str, text: str) -> VisemeTrack:
    """Return the visemes by one front end: "audio", "transcript", or "stream", in chunks of 20 ms.

    "liveportrait" hears as "audio" does, and is scored on the curve that drives the lips of that engine.
    """
    if front_end != "stream":
        return recognize_visemes(audio, FPS, transcript=text if front_end == "transcript" else None)
    stream, step = VisemeStream(FPS, audio.sample_rate), audio.sample_rate // 50
    tracks = [stream.push(audio.samples[i : i + step]) for i in range(0, len(audio.samples), step)]
    tracks.append(stream.finish())
    weights, loudness = zip(*((track.weights, track.loudness) for track in tracks), strict=True)
    return VisemeTrack(np.concatenate(weights), np.concatenate(loudness), FPS)


def jaw_opening(track: VisemeTrack) -> npt.NDArray[np.floating[Any]]:
    """Return (T,): how far the compact mouth opens."""
    return mouth_shape(track.weights)[:, 0]


def lips_of_liveportrait(track: VisemeTrack) -> npt.NDArray[np.floating[Any]]:
    """Return (T,): how far the lips that drive LivePortrait stand apart, neutral preset; 0 is touching."""
    return np.maximum(expression_parameters(drive(track, "neutral", 1))[:, 0], 0)


def evaluate(front_end: str, chosen: Sequence[Clip]) -> dict[str, float]:
    """Return the figures of one front end, see :func:`hear`, over some clips."""
    sums: dict[str, float] = {}
    lags, correlations = [], []
    for _, path, truth, text in chosen:
        audio = load_audio(path)
        track, true_track = hear(audio, front_end, text), recognize_visemes(audio, FPS, phonemes=truth)
        opening = lips_of_liveportrait if front_end == "liveportrait" else jaw_opening
        jaw, reference = opening(track), opening(true_track)
        lag, correlation = lag_and_correlation(jaw, reference)
        lags.append(lag)
        correlations.append(correlation)
        for name, value in score(jaw, truth).items():
            sums[name] = sums.get(name, 0) + value
    recall = sums["hits"] / max(sums["closures"], 1)
    precision = 1 - sums["false"] / max(sums["events"], 1)
    return {
        "closure_f1": 2 * recall * precision / max(recall + precision, 1e-9),
        "closure_recall": recall,
        "closure_precision": precision,
        "jaw_correlation": float(np.mean(correlations)),
        "lag_frames": float(np.median(lags)),
        # clips without a pause or an open vowel have nothing to get wrong
        "silence": sums["silent_ok"] / sums["silent"] if sums["silent"] else 1.0,
        "speech": sums["vowel_ok"] / sums["vowel"] if sums["vowel"] else 1.0,
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def record(chosen: Sequence[Clip], results: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return the figures with all that one needs to repeat them."""
    return {
        "schema": 1,
        "benchmark": "lipsync",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "env": {
            "python": platform.python_version(),
            "cpu": platform.processor() or platform.machine(),
            **{name: version(name) for name in ("numpy", "hama", "pocketsphinx")},
        },
        "params": {"clips": [name for name, *_ in chosen], "fps": str(FPS)},
        "figures": {kind: {k: round(v, 4) for k, v in r.items()} for kind, r in results.items()},
    }


def worse_than(baseline: Path, new: dict[str, Any]) -> list[str]:
    """Return what is worse than the newest record of the same clips, in words."""
    known = [r for r in json.loads(baseline.read_text())["records"] if r["params"] == new["params"]]
    if not known:
        return [f"{baseline} has no record of {', '.join(new['params']['clips'])}"]
    return [
        f"{kind} {figure}: {new['figures'][kind][figure]:.3f}, was {old[figure]:.3f}"
        for kind, old in known[-1]["figures"].items()
        for figure in FIGURES
        if new["figures"][kind][figure] < old[figure] - 0.02
    ]


def main() -> int:
    """Print the figures; return 1 if a check failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--stream", action="store_true", help="score the stream, too")
    parser.add_argument(
        "--liveportrait", action="store_true", help="score the driving curve of its lips, too"
    )
    parser.add_argument("--output", type=Path, help="append the record to this file")
    parser.add_argument("--check", type=Path, metavar="BASELINE", help="fail if a figure got worse")
    args = parser.parse_args()
    chosen = clips(args.folder)
    kinds = ["audio"] + ["transcript"] * all(text for *_, text in chosen) + ["stream"] * args.stream
    kinds += ["liveportrait"] * args.liveportrait
    results = {kind: evaluate(kind, chosen) for kind in kinds}
    for kind, figures in results.items():
        print(f"{kind:<11}" + "  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    made = record(chosen, results)
    if args.output:
        past: dict[str, Any] = {"schema": 1, "records": []}
        if args.output.exists():
            past = json.loads(args.output.read_text())
        past["records"].append(made)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(past, indent=1) + "\n")
    complaints = worse_than(args.check, made) if args.check else []
    for complaint in complaints:
        print(f"worse: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
