"""Measure what JoyVASA's motion costs on a CPU, and how far it steps between windows.

Usage: python benchmarks/joyvasa.py [--iterations 5] [--guidance 1.2] [--seams SECONDS]

By default, the CPU seconds of a window of 4 s, of which 3.2 s are new, in one thread: the sound into tokens,
and 50 denoising steps. ``--seams`` moves a face for so many seconds of the demo recording, again and again,
and compares the steps of the expression from frame to frame where windows join with all others.

The weights are random, in the release's sizes, written into a temporary folder, 414 MB: they cost the same,
and their steps say how windows join, not how well a face speaks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare import keep
from harness import ROOT, make_parser, measure, record, summary

from vortex.audio_motion.base import keypoints_of_voice
from vortex.audio_motion.joyvasa.model import (
    GUIDANCE,
    LEAD_FRAMES,
    JoyVasa,
    load_joyvasa,
    single_torch_thread,
)
from vortex.audio_motion.joyvasa.networks import JOYVASA_V1, SAMPLE_RATE_HZ
from vortex.audio_motion.windows import Window
from vortex.demo import DEMO_SPEECH
from vortex.media.audio import load_audio
from vortex.types import F32, Audio, FloatArray

sys.path.insert(0, str(ROOT / "tests"))


def main() -> int:
    """Do what the options ask for."""
    parser = make_parser(__doc__)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--seams", type=float, metavar="SECONDS", help="compare steps from frame to frame")
    args = parser.parse_args()
    from support.joyvasa_release import GAINS, write_release

    with tempfile.TemporaryDirectory() as folder:
        model = load_joyvasa(write_release(Path(folder), JOYVASA_V1, gains=GAINS), guidance=args.guidance)
        return keep(measure_seams(model, args) if args.seams else measure_window(model, args), args)


def measure_window(model: JoyVasa, args: argparse.Namespace) -> dict[str, Any]:
    """Return a record of the CPU seconds of one window, and of its sound alone."""
    sound = load_audio(DEMO_SPEECH, SAMPLE_RATE_HZ).samples
    plan = model.plan
    window = Window(0, np.resize(sound, plan.frames * plan.frame_samples), None, None)

    def whole() -> float:
        start_s = time.process_time()
        model.sample(window, seed=1)
        return time.process_time() - start_s

    def tokens() -> float:
        start_s = time.process_time()
        with single_torch_thread(), torch.inference_mode():
            model.networks.tokens(torch.tensor(window.samples)[None])
        return time.process_time() - start_s

    return record(
        "joyvasa_window",
        params={"guidance": args.guidance, "threads": 1, "iterations": args.iterations},
        latency_s=summary(measure(whole, iterations=args.iterations, warmup=1)),
        tokens_s=min(measure(tokens, iterations=args.iterations, warmup=1)),
        new_s_of_window=plan.hop * plan.frame_samples / SAMPLE_RATE_HZ,
    )


class Recorder(JoyVasa):
    """Keeps the expression (F, 63) of each window, as it was sampled, in ``motions``."""

    def __init__(self, model: JoyVasa) -> None:
        super().__init__(model.networks, model.statistics, model.guidance)
        self.motions: list[F32] = []

    def sample(self, window: Window, seed: int) -> tuple[F32, F32]:
        """Return what the model returns."""
        motion, tokens = super().sample(window, seed)
        self.motions.append(motion[:, :63])
        return motion, tokens


def rms(values: FloatArray) -> FloatArray:
    """Return the root of the mean square along the last axis."""
    return np.sqrt((values**2).mean(axis=-1))


def measure_seams(model: JoyVasa, args: argparse.Namespace) -> dict[str, Any]:
    """Return a record of the mean step of the expression between windows, and inside them."""
    sound = load_audio(DEMO_SPEECH, SAMPLE_RATE_HZ).samples
    voice = Audio(np.resize(sound, round(args.seams * SAMPLE_RATE_HZ)), SAMPLE_RATE_HZ)
    recorder, plan = Recorder(model), model.plan
    exp = keypoints_of_voice(recorder, voice, seed=1).exp.reshape(-1, 63) / model.statistics.exp_deviation
    steps = rms(np.diff(exp, axis=0))
    cuts = [rms(new[0] - old[plan.hop - 1]) for old, new in pairwise(recorder.motions[:-1])]
    starts = np.arange(plan.hop, len(exp) + LEAD_FRAMES - plan.frames, plan.hop) - LEAD_FRAMES
    between = (starts[:, None] + np.arange(-1, plan.frames - plan.hop)).ravel()
    inside = np.delete(steps, between)
    return record(
        "joyvasa_seams",
        params={"seconds": args.seams, "guidance": args.guidance},
        seams=len(starts),
        step_if_windows_were_cut={"mean": float(np.mean(cuts)), "max": float(max(cuts))},
        step_between_windows={"mean": float(steps[between].mean()), "max": float(steps[between].max())},
        step_inside_windows={"mean": float(inside.mean()), "max": float(inside.max())},
    )


if __name__ == "__main__":
    sys.exit(main())
