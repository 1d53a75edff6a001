"""Brows rise on emphasis and return slowly, each in its own way; smiles come at the end of phrases."""

from __future__ import annotations

import numpy as np
import pytest
from support.motion import constant_style, silence

from vortex.motion.brows import BrowHeights, Brows, Smiles
from vortex.motion.rhythm import Rhythm

FRAMES = 20 * 24


def stressed(frames: int, every: int = 120) -> Rhythm:
    stress = np.zeros(frames, np.float32)
    stress[every // 2 :: every] = 1
    return Rhythm(stress, *np.zeros((2, frames), bool))


def brows(
    seed: int, rhythm: Rhythm, preset: str = "excited", sizes: int = 1, up: float = 0.0, always: bool = True
) -> BrowHeights:
    effect, parts = Brows(np.random.default_rng(seed)), []
    for rows in np.array_split(np.arange(len(rhythm.stress)), sizes):
        style = constant_style(preset, len(rows))
        if always:
            style["brow_chance"] = np.ones(len(rows), np.float32)
        part = rhythm.rows(rows[0], rows[-1] + 1)
        parts.append(effect.next((rows + 0.5) / 24, 1 / 24, style, part, np.full(len(rows), up)))
    return BrowHeights(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("inner", "left", "right")))


def test_brows_rise_on_emphasis_faster_than_they_return() -> None:
    for seed in range(6):
        moved = brows(seed, stressed(FRAMES)).inner - brows(seed, silence(FRAMES)).inner
        assert (np.abs(moved[:60]) < 1e-9).all()
        largest = moved[:170].max()
        full = np.flatnonzero(moved[:170] > 0.95 * largest)
        gone = full[-1] + np.flatnonzero(moved[full[-1] : 170] < 0.05 * largest)[0]
        # Up within a quarter of a second of the start of the gesture, and gone within two.
        assert 60 < full[0] <= 60 + 6 and largest > 0.15
        assert full[0] - 60 < gone - full[-1]
        assert gone < 60 + 48


def test_one_brow_rises_further_and_each_face_has_its_own() -> None:
    leans = []
    for seed in range(20):
        found, rest = brows(seed, stressed(FRAMES), "manic"), brows(seed, silence(FRAMES), "manic")
        left, right = found.left - rest.left, found.right - rest.right
        leans.append((left - right).sum() / (np.abs(left) + np.abs(right)).sum())
    assert 3 < sum(lean > 0.05 for lean in leans) < 17
    assert np.mean(np.abs(leans)) > 0.2
    plain = brows(1, stressed(FRAMES), "neutral")
    assert np.corrcoef(plain.left, plain.right)[0, 1] > 0.9


def test_brows_are_never_quite_still_and_follow_the_eyes_up() -> None:
    rest = brows(1, silence(FRAMES), "neutral")
    assert 0.02 < rest.inner.std() < 0.1
    assert brows(1, silence(FRAMES), "neutral", up=1.0).inner - rest.inner == pytest.approx(0.17, abs=0.04)


def test_the_share_of_emphasis_that_shows_is_the_preset_s() -> None:
    counts = {}
    for preset in ("calm", "neutral", "excited"):
        shown = 0
        for seed in range(10):
            on, off = (
                brows(seed, r, preset, always=False).inner for r in (stressed(FRAMES), silence(FRAMES))
            )
            shown += sum(np.abs(on - off)[at : at + 24].max() > 0.02 for at in range(60, FRAMES, 120))
        counts[preset] = shown / 40
    assert counts["calm"] < counts["neutral"] < counts["excited"]


def test_the_same_brows_and_smiles_in_any_chunks() -> None:
    whole, parts = (brows(3, stressed(FRAMES), sizes=sizes) for sizes in (1, 77))
    assert np.array_equal(whole.inner, parts.inner) and np.array_equal(whole.left, parts.left)


def test_a_smile_comes_at_the_end_of_a_phrase_and_goes() -> None:
    ends = np.zeros(FRAMES, bool)
    ends[48] = True
    rhythm = Rhythm(np.zeros(FRAMES, np.float32), np.zeros(FRAMES, bool), ends)
    style = constant_style("excited", FRAMES) | {"smile_chance": np.ones(FRAMES, np.float32)}
    smile = Smiles(np.random.default_rng(1)).next((np.arange(FRAMES) + 0.5) / 24, style, rhythm)
    assert (smile[:49] == 0).all() and smile[49:].max() > 0.15
    assert np.abs(smile[48 + 5 * 24 :]).max() < 1e-9
    # It takes a third of a second or more to appear (Schmidt 2006).
    full = np.flatnonzero(smile > 0.99 * smile.max())[0]
    assert (full - 48) / 24 > 0.33
