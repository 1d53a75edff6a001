"""Measure speech synthesis: its speed, and how late its sounds are said to start against forced alignment.

Usage: python benchmarks/speech.py [--iterations 3] [--output .tasks/baselines/speech.json]

``realtime_factor`` is seconds of work for each second of speech, of warm calls. ``late_ms`` are percentiles
of (start according to vortex - start according to pocketsphinx's alignment with the text) over the inner
sounds of phrases, ``planned_late_ms`` the same without the correction AHEAD_S.
"""

from __future__ import annotations

import argparse
import difflib
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, append, measure, record, rounded, summary

from vortex.audio import resample
from vortex.extras.kokoro import AHEAD_S
from vortex.extras.speech import Speech, SpeechEngine, load_speech_engine, synthesize
from vortex.lipsync.phonemes import SILENCE
from vortex.lipsync.recognize import align_transcript

TEXT = (
    "Bob wrapped up the papers, picked a number, and made a big apple pie by five. "
    "My mother sells bread to the people who moved in above the bakery."
)
CASES = (
    ("af_heart", 1.0), ("af_heart", 0.7), ("af_heart", 1.5), ("am_michael", 0.8), ("bf_emma", 1.0),
    ("bm_george", 1.0),
)  # fmt: skip


def late_s(speech: Speech) -> list[float]:
    """Return how much later than aligned the sounds start, without those behind a pause."""
    sound = resample(speech.audio.samples, speech.audio.sample_rate, 16_000)
    aligned = align_transcript(sound, speech.words)
    spans = speech.phonemes
    rows = [row for row in range(1, len(spans)) if spans[row].phoneme != SILENCE]
    names = [spans[row].phoneme for row in rows]
    matcher = difflib.SequenceMatcher(None, names, [span.phoneme for span in aligned], autojunk=False)
    return [
        spans[rows[block.a + step]].start_s - aligned[block.b + step].start_s
        for block in matcher.get_matching_blocks()
        for step in range(block.size)
        if spans[rows[block.a + step] - 1].phoneme != SILENCE
    ]


def percentiles_ms(values_s: list[float]) -> dict[str, float]:
    """Return the 10th, 50th and 90th percentile in milliseconds."""
    low, middle, high = np.percentile(values_s, [10, 50, 90])
    return {"p10": float(1000 * low), "p50": float(1000 * middle), "p90": float(1000 * high)}


def measured(engine: SpeechEngine, voice: str, speed: float) -> dict[str, Any]:
    """Return the lateness of one voice at one speed."""
    found = late_s(synthesize(TEXT, engine, voice=voice, speed=speed))
    planned = [value + AHEAD_S / speed**0.5 for value in found]
    return {
        "sounds": len(found),
        "late_ms": percentiles_ms(found),
        "planned_late_ms": percentiles_ms(planned),
    }


def main() -> None:
    """Measure and append the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / ".tasks" / "baselines" / "speech.json")
    args = parser.parse_args()
    started_s = time.perf_counter()
    engine = load_speech_engine()
    load_s = time.perf_counter() - started_s
    duration_s = float(synthesize(TEXT, engine).audio.duration_s)

    def speak() -> float:
        start_s = time.perf_counter()
        synthesize(TEXT, engine)
        return time.perf_counter() - start_s

    seconds = measure(speak, iterations=args.iterations, warmup=1)
    entry = record(
        "speech",
        engine=engine.name,
        params={"iterations": args.iterations, "speech_s": duration_s},
        load_s=load_s,
        latency_s=summary(seconds),
        realtime_factor=min(seconds) / duration_s,
        times={f"{voice}@{speed:g}": measured(engine, voice, speed) for voice, speed in CASES},
    )
    append(args.output, rounded(entry))
    print(f"{args.output}: {entry['realtime_factor']:.2f} s for each second of speech")
    for case, figures in entry["times"].items():
        late, planned = figures["late_ms"], figures["planned_late_ms"]
        print(
            f"{case:<14} {figures['sounds']} sounds, late {late['p50']:+.0f} ms "
            f"({late['p10']:+.0f} to {late['p90']:+.0f}), as planned {planned['p50']:+.0f} ms"
        )


if __name__ == "__main__":
    main()
