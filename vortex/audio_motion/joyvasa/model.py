"""JoyVASA as a model of vortex: windows that overlap, noise from a seed, and a silence as the reference."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vortex.audio_motion.joyvasa.diffusion import sample_window
from vortex.audio_motion.joyvasa.load import EXP_COLUMNS, MotionStatistics, load_networks, load_statistics
from vortex.audio_motion.joyvasa.networks import FPS, FRAME_SAMPLES, SAMPLE_RATE_HZ, JoyVasaNetworks
from vortex.audio_motion.windows import Window, WindowPlan, WindowStream
from vortex.errors import AudioError
from vortex.runtime.setting import RefCountedSetting, Restore
from vortex.types import F32, F64, KeypointTrack

LEAD_FRAMES = 10
"""Frames of silence before the voice: the face at rest is their mean, and they are not returned."""
SHARED_SHARE = 0.2
"""Share of a window that the next one has, too."""
GUIDANCE = 1.2
"""How far the motion follows the sound (:func:`sample_window`). Programs that use the release take 1.15 to 4;
with lips only, 1.2 has been reported to look best."""
NOISE_STREAM = 7
"""Number of the noise among what a seed decides (:class:`vortex.motion.animator.FaceAnimator` has 0 to 5)."""


def _limit_torch() -> Restore:
    """Let torch compute in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    return lambda: torch.set_num_threads(before)


single_torch_thread = RefCountedSetting(_limit_torch).held
"""A context manager: while any thread is inside, torch computes in one thread on a CPU.

The matrices are small, and threads wait for each other thousands of times in a window: beside other work, two
threads took ten times as long as one.
"""


class JoyVasa:
    """The loaded networks. It keeps nothing between calls, and any number of threads may call it at once."""

    name = "joyvasa"
    sample_rate_hz = SAMPLE_RATE_HZ
    fps = Fraction(FPS)

    def __init__(
        self, networks: JoyVasaNetworks, statistics: MotionStatistics, guidance: float = GUIDANCE
    ) -> None:
        self.networks, self.statistics, self.guidance = networks, statistics, guidance

    def stream(self, seed: int) -> JoyVasaStream:
        """Return a stream for one voice."""
        return JoyVasaStream(self, seed)

    @property
    def plan(self) -> WindowPlan:
        """How a sound is cut into windows."""
        sizes = self.networks.sizes
        hop = sizes.window_frames - round(SHARED_SHARE * sizes.window_frames)
        return WindowPlan(sizes.window_frames, hop, sizes.context_frames, FRAME_SAMPLES)

    def sample(self, window: Window, seed: int) -> tuple[F32, F32]:
        """Return the normalised motion (F, M) of a window, and the tokens (F, 256) of its sound."""
        networks = self.networks
        noise = self._tensor(frame_noise(seed, window.first, networks))
        context = None
        if window.motion_before is not None and window.tokens_before is not None:
            context = self._tensor(window.motion_before), self._tensor(window.tokens_before)
        with single_torch_thread(), torch.inference_mode():
            tokens = networks.tokens(self._tensor(window.samples)[None])[0]
            motion = sample_window(networks, tokens, noise, guidance=self.guidance, context=context)
        return motion.cpu().numpy(), tokens.cpu().numpy()

    def _tensor(self, array: F32) -> torch.Tensor:
        return torch.tensor(array, device=self.networks.device)

    def keypoints(self, motion: F32) -> KeypointTrack:
        """Return a normalised motion (T, M) as keypoints; each frame has its own absolute expression."""
        exp, pose = self.statistics.denormalise(motion)
        return KeypointTrack(
            exp=exp.reshape(-1, EXP_COLUMNS // 3, 3),
            rotation=rotations(pose[:, 4:7]),
            scale=pose[:, 0],
            translation=pose[:, 1:4],
            fps=self.fps,
        )


class JoyVasaStream:
    """The motion of one voice while it arrives; see :class:`vortex.audio_motion.base.KeypointStream`."""

    def __init__(self, model: JoyVasa, seed: int) -> None:
        self._model = model
        self._windows = WindowStream(model.plan, partial(model.sample, seed=seed))
        self._lead = np.zeros((0, model.networks.sizes.motion), np.float32)
        self._windows.push(np.zeros(LEAD_FRAMES * FRAME_SAMPLES, np.float32))

    def push(self, samples: F32) -> KeypointTrack:
        """Add (N,) samples at 16 kHz, mono in [-1, 1]; return the frames that are final now, or none."""
        return self._after_lead(self._windows.push(samples))

    def finish(self) -> KeypointTrack:
        """End the voice and return the remaining frames; all together are ceil(samples / 640)."""
        return self._after_lead(self._windows.finish())

    def rest(self) -> KeypointTrack:
        """Return one frame: the mean of the face in the silence before the voice."""
        if len(self._lead) < LEAD_FRAMES:
            raise AudioError("No frame was returned yet; give more sound, or finish it, first.")
        return self._model.keypoints(self._lead.mean(axis=0, keepdims=True))

    def _after_lead(self, motion: F32) -> KeypointTrack:
        """Return keypoints of the motion after the silence, which is kept."""
        if not len(motion):
            return self._model.keypoints(self._lead[:0])
        missing = LEAD_FRAMES - len(self._lead)
        self._lead = np.concatenate([self._lead, motion[:missing]])
        return self._model.keypoints(motion[missing:])


def frame_noise(seed: int, first: int, networks: JoyVasaNetworks) -> F32:
    """Return (steps, F, M) float32, normal: the noise of a window that starts with frame ``first``.

    Each frame has a generator of its own, so windows that share frames share their noise, and it is the same
    on every device and for every way of cutting the sound.
    """
    sizes = networks.sizes
    shape = sizes.steps, sizes.motion
    frames = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(NOISE_STREAM, frame)))
        for frame in range(first, first + sizes.window_frames)
    ]
    return np.stack([rng.standard_normal(shape, np.float32) for rng in frames], axis=1)


def rotations(angles_deg: F32) -> F64:
    """Return (T, 3, 3) R = (Rz Ry Rx)^T of pitch, yaw and roll (T, 3) in degrees, used as ``x_c @ R``.

    Axes and signs are LivePortrait's: x right, y down, z away from the viewer; yaw > 0 turns to the viewer's
    left.
    """
    radians = np.radians(np.asarray(angles_deg, np.float64))
    sin, cos = np.sin(radians), np.cos(radians)
    result = np.broadcast_to(np.eye(3), (len(radians), 3, 3))
    # Turns about x, y and z, each in the plane of the two other axes.
    for column, (one, other) in enumerate(((1, 2), (2, 0), (0, 1))):
        turn = np.tile(np.eye(3), (len(radians), 1, 1))
        turn[:, one, one] = turn[:, other, other] = cos[:, column]
        turn[:, other, one], turn[:, one, other] = sin[:, column], -sin[:, column]
        result = turn @ result
    return np.ascontiguousarray(result.transpose(0, 2, 1))


def load_joyvasa(
    folder: Path, *, device: str = "cpu", guidance: float = GUIDANCE, ordered: bool = False
) -> JoyVasa:
    """Return the model of the release below ``folder``, in float32.

    ``ordered`` numbers the frames for the denoiser, which the released weights have most probably not learned
    (:class:`vortex.audio_motion.joyvasa.networks.Denoiser`).

    Raises:
        WeightsMissingError, WeightsCorruptError: the weights must be fetched.
    """
    networks = load_networks(folder, ordered=ordered).to(device)
    return JoyVasa(networks, load_statistics(folder), guidance)
