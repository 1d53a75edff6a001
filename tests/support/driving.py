"""Videos of a face whose motion is known: a photo, rendered by the mesh engine."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import skimage.data

from vortex.engines.registry import load_engine
from vortex.face.portrait import load_portrait
from vortex.media.video import encode_video
from vortex.types import BLENDSHAPE_INDEX, BLENDSHAPES, Audio, Frame, MotionTrack

FPS = Fraction(25)
SECONDS = 2.4
OPENINGS_S = (0.5, 1.1, 1.9)
"""When the jaw is open widest."""
BLINK_S = 0.8
TURN_DEG = 6.0
"""Yaw at the end, to the viewer's right; the turn begins after BLINK_S."""
SOUND_HZ = 48_000


def actor() -> Frame:
    """Return the photo (512, 512, 3) of the astronaut Eileen Collins, which scikit-image carries."""
    return np.asarray(skimage.data.astronaut(), np.uint8)


def known_motion(times_s: Sequence[float] | np.ndarray) -> MotionTrack:
    """Return the motion at the given times."""
    at_s = np.asarray(times_s)
    shapes = np.zeros((len(at_s), len(BLENDSHAPES)), np.float32)
    opening = sum(np.exp(-0.5 * ((at_s - peak_s) / 0.09) ** 2) for peak_s in OPENINGS_S)
    shapes[:, BLENDSHAPE_INDEX["jawOpen"]] = 0.6 * opening
    shapes[:, BLENDSHAPE_INDEX["mouthClose"]] = np.clip(1 - 8 * opening, 0, 1)
    lids = np.exp(-0.5 * ((at_s - BLINK_S) / 0.05) ** 4)
    for side in ("Left", "Right"):
        shapes[:, BLENDSHAPE_INDEX[f"eyeBlink{side}"]] = lids
    pose = np.zeros((len(at_s), 3), np.float32)
    pose[:, 1] = TURN_DEG * np.clip((at_s - 1.2) / 0.8, 0, 1)
    return MotionTrack(shapes, pose, FPS)


def known_frames(times_s: Sequence[float] | np.ndarray) -> list[Frame]:
    """Return the face at the given times, 256 px."""
    engine, prepared = _prepared()
    return list(engine.iter_frames(prepared, known_motion(times_s)))


@lru_cache(maxsize=1)
def _prepared():  # type: ignore[no-untyped-def]
    engine = load_engine("mesh")
    return engine, engine.prepare(load_portrait(actor()), size_px=256)


def frame_times_s() -> np.ndarray:
    """Return the time that each frame of a video at FPS shows, its middle."""
    return (np.arange(round(SECONDS * FPS)) + 0.5) / float(FPS)


def click_track(seconds: float = SECONDS) -> Audio:
    """Return a sound with a short tone at each opening of the jaw."""
    at_s = np.arange(round(seconds * SOUND_HZ)) / SOUND_HZ
    loud = sum(np.exp(-0.5 * ((at_s - peak_s) / 0.02) ** 2) for peak_s in OPENINGS_S)
    return Audio((0.4 * loud * np.sin(2 * np.pi * 440 * at_s)).astype(np.float32), SOUND_HZ)


def write_known_video(path: Path) -> None:
    """Write the video with its sound."""
    encode_video(path, iter(known_frames(frame_times_s())), click_track(), FPS, (256, 256))


def write_timed_video(
    path: Path, frames: Sequence[Frame], times_s: Sequence[float] | np.ndarray, *, turned_deg: int = 0
) -> None:
    """Write a silent video whose frames are shown from ``times_s`` on, stored turned by ``turned_deg``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "12", "bf": "0"})
        stored = [np.ascontiguousarray(np.rot90(frame, -turned_deg // 90)) for frame in frames]
        stream.height, stream.width = stored[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 90_000)
        if turned_deg:
            stream.set_display_rotation(turned_deg)
        for picture, time_s in zip(stored, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
