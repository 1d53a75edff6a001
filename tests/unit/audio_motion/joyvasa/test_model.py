"""JoyVASA as a model: seed, chunks, length, seams, the face at rest, and head rotations."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch

from vortex.audio_motion.base import keypoints_of_voice
from vortex.audio_motion.joyvasa.model import LEAD_FRAMES, JoyVasa, frame_noise, rotations
from vortex.audio_motion.joyvasa.networks import FRAME_SAMPLES, SAMPLE_RATE_HZ
from vortex.audio_motion.windows import Window
from vortex.engines.liveportrait.keypoints import rotation_matrix
from vortex.errors import AudioError
from vortex.types import F32, Audio, KeypointTrack


def voice(frames: float) -> F32:
    """Return noise whose loudness changes like syllables."""
    count = round(frames * FRAME_SAMPLES)
    envelope = np.abs(np.sin(np.arange(count) * 2 * np.pi * 2 / SAMPLE_RATE_HZ))
    return (0.3 * np.random.default_rng(0).standard_normal(count) * envelope).astype(np.float32)


def motion_of(model: JoyVasa, sound: F32, seed: int = 1) -> KeypointTrack:
    return keypoints_of_voice(model, Audio(sound, SAMPLE_RATE_HZ), seed)


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (0.2, 1), (12.5, 13), (40, 40), (57, 57)])
def test_there_is_one_row_for_each_frame_of_40_ms(model: JoyVasa, frames: float, expected: int) -> None:
    track = motion_of(model, voice(frames))
    assert len(track) == expected and track.fps == 25
    assert np.isfinite(track.exp).all() and np.isfinite(track.rotation).all()


def test_a_seed_decides_the_motion_and_nothing_global_does(model: JoyVasa) -> None:
    sound, state, threads = voice(50), torch.random.get_rng_state(), torch.get_num_threads()
    one = motion_of(model, sound, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.rand(3)
    again, other = motion_of(model, sound, seed=1), motion_of(model, sound, seed=2)
    assert np.array_equal(one.exp, again.exp) and np.array_equal(one.rotation, again.rotation)
    assert np.abs(one.exp - other.exp).mean() > 1e-3


def test_chunks_of_a_stream_do_not_matter(model: JoyVasa) -> None:
    sound, whole = voice(50), motion_of(model, voice(50))
    for chunk in (1000, 7777):
        stream = model.stream(1)
        parts = [stream.push(sound[at : at + chunk]).exp for at in range(0, len(sound), chunk)]
        assert np.array_equal(np.concatenate([*parts, stream.finish().exp]), whole.exp)


class Meter(JoyVasa):
    """Says the loudness of each frame in its first column, instead of the networks' motion."""

    def sample(self, window: Window, seed: int) -> tuple[F32, F32]:
        rows = window.samples.reshape(self.plan.frames, FRAME_SAMPLES)
        motion = np.zeros((self.plan.frames, self.networks.sizes.motion), np.float32)
        motion[:, 0] = np.abs(rows).mean(axis=1)
        return motion, motion


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 48_000])
def test_frames_show_the_sound_of_their_own_time(model: JoyVasa, rate_hz: int) -> None:
    meter = Meter(model.networks, model.statistics)
    sound = voice(130) * np.repeat(np.arange(130) % 3 == 0, FRAME_SAMPLES)
    given = Audio(soxr.resample(sound, SAMPLE_RATE_HZ, rate_hz), rate_hz)
    track = keypoints_of_voice(meter, given, 1)
    heard = (track.exp[:, 0, 0] - model.statistics.exp_mean[0]) / model.statistics.exp_deviation[0]
    expected = np.abs(sound).reshape(-1, FRAME_SAMPLES).mean(axis=1)
    # resampling spreads a sudden start over a millisecond, and leaves out what is above half the rate
    assert np.abs(heard - expected).max() < 0.1 * expected.max()


def test_noise_belongs_to_a_frame_and_is_normal(model: JoyVasa) -> None:
    networks, shared = model.networks, 5
    hop = networks.sizes.window_frames - shared
    one, two = frame_noise(3, 0, networks), frame_noise(3, hop, networks)
    assert np.array_equal(one[:, hop:], two[:, :shared])
    assert not np.isclose(one[:, 0], one[:, 1]).any()
    assert abs(one.mean()) < 0.03 and one.std() == pytest.approx(1, abs=0.03)


def test_motion_steps_no_further_between_windows_than_inside_them(model: JoyVasa) -> None:
    # A window that was cut at its end would step 1.2 times as far to the next one.
    track, plan = motion_of(model, voice(1200)), model.plan
    steps = np.abs(np.diff(track.exp.reshape(len(track), -1), axis=0)).mean(axis=1)
    starts = np.arange(plan.hop, len(track) - plan.frames, plan.hop) - LEAD_FRAMES
    assert len(starts) > 50
    between = (starts[:, None] + np.arange(-1, plan.frames - plan.hop)).ravel()
    assert steps[between].mean() < np.delete(steps, between).mean()


def test_the_face_at_rest_is_that_of_the_silence_before_the_voice(model: JoyVasa) -> None:
    stream = model.stream(4)
    with pytest.raises(AudioError, match="give more sound"):
        stream.rest()
    stream.push(voice(40))
    rest = stream.rest()
    assert len(rest) == 1
    # the frames of silence are the first ones of the same sound with as much silence before it
    sound = np.r_[np.zeros(LEAD_FRAMES * FRAME_SAMPLES, np.float32), voice(40)]
    first = Window(0, sound[: model.plan.frames * FRAME_SAMPLES], None, None)
    frames = model.keypoints(model.sample(first, 4)[0])
    assert np.allclose(frames.exp[:LEAD_FRAMES].mean(axis=0), rest.exp[0], atol=1e-6)


def test_rotations_are_those_of_liveportrait() -> None:
    angles = np.random.default_rng(1).uniform(-60, 60, (20, 3)).astype(np.float32)
    expected = rotation_matrix(torch.from_numpy(angles)).numpy()
    assert np.allclose(rotations(angles), expected, atol=1e-6)
