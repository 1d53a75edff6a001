"""The lip-sync measure on mouths whose offset, closures and gaps are known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.syllables import speech

from vortex.lipsync.sync import MouthTrack, SyncMeasurement, SyncReport, compare, plot_sync
from vortex.lipsync.visemes import mouth_shape
from vortex.types import Audio, VisemeTrack

FPS = Fraction(24)


@pytest.fixture(scope="module")
def visemes() -> VisemeTrack:
    return speech(12)


def mouth_of(visemes: VisemeTrack, late_frames: float = 0.0) -> MouthTrack:
    """Return lips that open as the visemes say, late by some frames."""
    jaw = mouth_shape(visemes.weights)[:, 0]
    rows = np.arange(len(jaw))
    return MouthTrack(0.2 * np.interp(rows - late_frames, rows, jaw), 0.001, FPS)


@pytest.mark.parametrize("late", [*range(-8, 9), -2.5, 0.5, 1.25])
def test_a_known_offset_is_recovered(visemes: VisemeTrack, late: float) -> None:
    report = compare(mouth_of(visemes, late), visemes)
    assert report.offset_frames == pytest.approx(late, abs=0.15)
    assert report.offset_ms == pytest.approx(report.offset_frames * 1000 / 24)
    assert report.correlation > 0.9
    side = "late" if late > 0 else "early"
    expected = [f"the picture is {abs(report.offset_frames):.1f} frames {side}"] if abs(late) > 2 else []
    assert report.complaints() == expected


def test_lips_that_follow_do_every_closure_and_rest_in_silence(visemes: VisemeTrack) -> None:
    report = compare(mouth_of(visemes), visemes)
    assert len(report.closures_found_s) > 10 and report.closures_missed_s == ()
    assert report.still_in_silence is not None and report.still_in_silence > 0.9
    assert (report.face_share, report.frames, report.jitter) == (1, 288, 0.001)


def test_lips_that_never_meet_miss_every_closure(visemes: VisemeTrack) -> None:
    open_lips = MouthTrack(np.maximum(mouth_of(visemes).opening, 0.1), 0.0, FPS)
    report, in_sync = compare(open_lips, visemes), compare(mouth_of(visemes), visemes)
    assert report.closures_missed_s == in_sync.closures_found_s
    assert report.closures_found_s == ()


@pytest.mark.parametrize("opening", [np.full(288, 0.1), np.random.default_rng(0).random(288)])
def test_a_mouth_that_does_not_follow_the_speech_is_reported(
    visemes: VisemeTrack, opening: np.ndarray
) -> None:
    report = compare(MouthTrack(opening, 0.0, FPS), visemes)
    assert report.correlation < 0.4
    assert "does not follow" in report.complaints()[0]


def test_frames_without_a_face_are_bridged_and_too_many_are_reported(visemes: VisemeTrack) -> None:
    opening = mouth_of(visemes).opening.copy()
    opening[20:24] = np.nan
    report = compare(MouthTrack(opening, 0.0, FPS), visemes)
    assert report.face_share == pytest.approx(284 / 288)
    assert report.offset_frames == pytest.approx(0, abs=0.1)
    assert report.complaints() == []
    opening[100:] = np.nan
    assert "a face in only 33% of the frames" in compare(MouthTrack(opening, 0.0, FPS), visemes).complaints()


def test_the_report_is_json_and_judges_by_its_limit(visemes: VisemeTrack) -> None:
    report = compare(mouth_of(visemes, 5), visemes)
    assert report.as_json()["fps"] == "24"
    assert report.as_json()["complaints"] == report.complaints() != []
    assert replace(report, max_offset_frames=6.0).as_json()["complaints"] == []


def test_the_plot_shows_found_and_missed_closures_in_their_colours(
    tmp_path: Path, visemes: VisemeTrack
) -> None:
    from PIL import Image

    def lines(report: SyncReport) -> tuple[bool, bool]:
        """Return whether the plot has green and red pixels."""
        sound = np.random.default_rng(0).uniform(-1, 1, 12 * 24_000).astype(np.float32)
        plot_sync(tmp_path / "sync.png", SyncMeasurement(report, mouth_of(visemes), Audio(sound)))
        with Image.open(tmp_path / "sync.png") as picture:
            red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), int), 2, 0)
        return bool((green > np.maximum(red + 50, blue + 20)).any()), bool((red > green + 50).any())

    assert lines(compare(mouth_of(visemes), visemes)) == (True, False)
    open_lips = MouthTrack(np.maximum(mouth_of(visemes).opening, 0.1), 0.0, FPS)
    assert lines(compare(open_lips, visemes)) == (False, True)
    assert [path.name for path in tmp_path.iterdir()] == ["sync.png"]
