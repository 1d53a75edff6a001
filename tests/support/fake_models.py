"""A speech engine and a picture model without networks, which can fail or be slow."""

from __future__ import annotations

import threading
import time

import numpy as np

from vortex.demo import demo_portrait
from vortex.media.picture import load_picture
from vortex.speech.base import SpeechEngineSpec, Utterance, Voice
from vortex.types import Frame, ProgressCallback


class Tone:
    """A speech engine that says each sentence as a tone of 1 s with a closure in its middle.

    The first ``failures`` sentences fail, and each one takes ``wait_s``.
    """

    name, sample_rate_hz, voices = "tone", 24_000, (Voice("tone", "none", "none"),)

    def __init__(self, failures: int = 0, wait_s: float = 0.0) -> None:
        self.failures, self.wait_s, self.calls = failures, wait_s, 0

    def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
        self.calls += 1
        time.sleep(self.wait_s)
        if self.calls <= self.failures:
            raise RuntimeError("the engine stumbled")
        tone = (0.3 * np.sin(np.arange(24_000) * 2 * np.pi * 200 / 24_000)).astype(np.float32)
        tone[10_000:13_000] = 0
        return Utterance(tone, ("AA", "P", "AA"), np.array([10_000, 13_000, 24_000]))

    def spec(self) -> SpeechEngineSpec:
        """Return the row of this engine in the registry."""
        return SpeechEngineSpec("tone", lambda: self, lambda: self.voices, 1 << 20)


class Painter:
    """An image source that draws noise for the first ``noise`` seeds, then a face; each takes ``wait_s``."""

    name = "painter"

    def __init__(self, noise: int = 0, wait_s: float = 0.0) -> None:
        self.noise, self.wait_s = noise, wait_s
        self.seeds: list[int] = []
        self.ended, self.finished = threading.Event(), False

    def make(
        self, prompt: str, *, seed: int, size_px: int = 512, on_progress: ProgressCallback | None = None
    ) -> Frame:
        self.seeds.append(seed)
        ends_s = time.monotonic() + self.wait_s
        try:
            while time.monotonic() < ends_s:
                if on_progress:
                    on_progress("image", 0, 4)
                time.sleep(0.01)
            self.finished = True
        finally:
            self.ended.set()
        if len(self.seeds) <= self.noise:
            return np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)
        return load_picture(demo_portrait()).image
