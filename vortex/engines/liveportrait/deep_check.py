"""One frame of the built-in portrait, which shows whether fetched weights render what they should.

Nobody of ours has rendered with the released weights yet. The first frame that somebody renders and sends is
kept as :data:`RECORDED`; from then on, others are compared with it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from vortex.demo import demo_portrait
from vortex.engines.liveportrait.engine import LivePortraitEngine
from vortex.errors import EngineError, NoFaceError
from vortex.face.portrait import detect_portrait, load_portrait
from vortex.motion.drive import still
from vortex.runtime.files import whole_file, write_whole
from vortex.types import BLENDSHAPE_INDEX, F32, Frame, MotionTrack
from vortex.version import __version__
from vortex.weights.cache import WEIGHTS

RECORDED = Path(__file__).parents[2] / "data" / "liveportrait_frame.json"
"""The small frame that was recorded, if there is one."""
SMALL_PX = 32
MAX_DIFFERENCE = 2.0
"""Mean difference of small frames that passes, of 255, which leaves room for half precision."""
POSE = {"jawOpen": 0.5, "mouthSmileLeft": 0.4, "mouthSmileRight": 0.4, "browInnerUp": 0.5}
HEAD_DEG = (4.0, 8.0, 3.0)


@dataclass(frozen=True, slots=True, eq=False)
class DeepCheck:
    """A rendered ``frame`` (512, 512, 3) and what it tells.

    ``face`` is whether a face was found in it, ``difference`` that of the small frames, of 255, None if none
    is recorded. ``took_s`` is the time from the picture to the frame.
    """

    frame: Frame
    face: bool
    difference: float | None
    took_s: float
    device: str

    def check(self) -> None:
        """Raise EngineError if the frame shows no face, or another one than was recorded."""
        if not self.face:
            raise EngineError(
                f"No face is found in the frame that liveportrait rendered on {self.device}. "
                "Compare with the device 'cpu', or another version of torch, and report it."
            )
        if self.difference is not None and not self.difference <= MAX_DIFFERENCE:
            raise EngineError(
                f"The frame that liveportrait rendered on {self.device} differs from the recorded one by "
                f"{self.difference:.1f} of 255; at most {MAX_DIFFERENCE:g} pass. Compare with the device "
                "'cpu', or another version of torch, and report it."
            )


def posed() -> MotionTrack:
    """Return one frame in which mouth, brows and head move."""
    motion = still(1, Fraction(24))
    shapes = motion.blendshapes.copy()
    for name, value in POSE.items():
        shapes[0, BLENDSHAPE_INDEX[name]] = value
    return replace(motion, blendshapes=shapes, head_pose_deg=np.array([HEAD_DEG], np.float32))


def render_check(engine: LivePortraitEngine, recorded: Path | None = None) -> DeepCheck:
    """Render the frame with an engine, look for a face in it, and compare it with the ``recorded`` one.

    Default, with :data:`RECORDED`.
    """
    recorded = recorded or RECORDED
    portrait = load_portrait(demo_portrait())
    start_s = time.perf_counter()
    frame = next(iter(engine.iter_frames(engine.prepare(portrait), posed())))
    took_s = time.perf_counter() - start_s
    try:
        detect_portrait(frame, force_face=True)
        face = True
    except NoFaceError:
        face = False
    difference = None
    if recorded.is_file():
        expected = np.array(json.loads(recorded.read_text(encoding="utf-8"))["frame"], np.float32)
        difference = float(np.abs(small(frame) - expected.reshape(SMALL_PX, SMALL_PX, 3)).mean())
    return DeepCheck(frame, face, difference, took_s, engine.device)


def small(frame: Frame) -> F32:
    """(H, W, 3) uint8 -> (32, 32, 3), averaged."""
    averaged = cv2.resize(frame.astype(np.float32), (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(averaged, np.float32)


def write_record(check: DeepCheck, folder: Path) -> tuple[Path, Path]:
    """Write what would be recorded (JSON, 15 kB) and the frame (PNG) into a folder; return their paths."""
    record, picture = folder / "frame.json", folder / "frame.png"
    rounded: npt.NDArray[np.floating] = small(check.frame).round(1)
    content = {
        "vortex": __version__,
        "torch": torch.__version__,
        "device": check.device,
        "revision": WEIGHTS["liveportrait"][0].revision,
        "frame": [float(f"{value:.1f}") for value in rounded.ravel()],
    }
    write_whole(record, json.dumps(content))
    done, encoded = cv2.imencode(".png", check.frame[..., ::-1])
    assert done
    with whole_file(picture) as part:
        part.write_bytes(encoded.tobytes())
    return record, picture
