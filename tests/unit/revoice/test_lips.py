"""The lips that a voice wants of a person: at rest in silence, shut in closures, open as that person is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from support.driving import known_motion

from vortex.motion.drive import VISEME_BLENDSHAPES
from vortex.revoice.lips import GAP, LIP_INDEX, Mouth, find_mouth, learn_speech, voice_moves, wanted_lips
from vortex.types import MotionTrack
from vortex.visemes import VISEME_INDEX

REST = np.array([0.0, 1.2, 0.7, 0.85, 0.75, 0.45])


def motion_of(*visemes: str) -> MotionTrack:
    rows = VISEME_BLENDSHAPES[[VISEME_INDEX[name] for name in visemes]]
    return MotionTrack(rows, np.zeros((len(rows), 3), np.float32), Fraction(25))


def mouths() -> list[Mouth]:
    speech = np.eye(7, 6) + np.random.default_rng(2).normal(0, 0.5, (7, 6))
    return [Mouth(REST, None), Mouth(REST, 0.1), Mouth(REST, 0.1, speech)]


def test_in_silence_every_mouth_is_at_rest() -> None:
    for mouth in mouths():
        np.testing.assert_allclose(wanted_lips(motion_of("sil", "sil"), mouth), [REST, REST], atol=1e-6)


def test_lips_meet_exactly_where_they_close() -> None:
    for mouth in mouths():
        assert (wanted_lips(motion_of("PP", "aa", "PP"), mouth)[[0, 2], GAP] == 0).all()


def test_vowels_differ_as_people_say_them() -> None:
    """An ah opens widest and drops the jaw; an oo is narrow."""
    wanted = wanted_lips(motion_of("aa", "ou", "ih"), Mouth(REST, None))
    assert wanted[:, GAP].argmax() == 0
    assert wanted[:, LIP_INDEX["jaw"]].argmax() == 0
    assert wanted[:, LIP_INDEX["width"]].argmin() == 1


def test_a_person_who_opens_little_is_asked_for_little() -> None:
    motion = known_motion(np.arange(0, 2.4, 0.04))
    little, much = (wanted_lips(motion, Mouth(REST, opening))[:, GAP].max() for opening in (0.12, 0.15))
    np.testing.assert_allclose(much / little, 1.25, rtol=0.02)


def test_the_mouth_at_rest_is_that_of_shut_frames() -> None:
    lips = np.tile(REST, (20, 1))
    lips[:12, GAP], lips[:12, LIP_INDEX["width"]] = 0.15, 0.6
    mouth = find_mouth(lips)
    np.testing.assert_allclose(mouth.rest, REST)
    assert mouth.opening == 0.15


def test_what_a_person_does_with_a_voice_is_learned() -> None:
    """A person who opens half as far, and spreads the lips in speech, is asked for that."""
    motion = motion_of(*(["sil", "aa", "E", "ih", "oh", "ou", "PP", "SS", "kk", "DD"] * 30))
    moves = voice_moves(motion)
    truth = np.eye(7, 6) * 0.5
    truth[6, LIP_INDEX["width"]] = 0.05
    lips = REST + moves @ truth
    wanted = wanted_lips(motion, Mouth(REST, 0.1, learn_speech(moves, lips, REST)))
    usual = wanted_lips(motion, Mouth(REST, None))
    assert np.abs(wanted - lips).mean() < 0.3 * np.abs(usual - lips).mean()
