"""The lip-sync measure on mouths whose offset, closures and gaps are known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.closures import spoken
from support.syllables import syllables

from vortex.lipsync.sync import MouthTrack, SyncMeasurement, SyncReport, at_steady_rate, compare, plot_sync
from vortex.lipsync.visemes import coarticulate, mouth_shape
from vortex.types import Audio, PhonemeSpan

FPS = Fraction(24)


@pytest.fixture(scope="module")
def spans() -> list[PhonemeSpan]:
    return syllables(12)


def mouth_of(spans: list[PhonemeSpan], late_frames: float = 0.0, fps: Fraction = FPS) -> MouthTrack:
    """Return lips that open for 12 s as the sounds say, late by some frames."""
    jaw = mouth_shape(coarticulate(spans, round(12 * fps), fps))[:, 0]
    rows = np.arange(len(jaw))
    return MouthTrack(0.2 * np.interp(rows - late_frames, rows, jaw), 0.001, fps)


def changed(mouth: MouthTrack, opening: np.ndarray) -> MouthTrack:
    return MouthTrack(opening, mouth.jitter, mouth.fps)


@pytest.mark.parametrize("late", [*range(-8, 9), -2.5, 0.5, 1.25])
def test_a_known_offset_is_recovered(spans: list[PhonemeSpan], late: float) -> None:
    report = compare(mouth_of(spans, late), spans)
    assert report.offset_frames == pytest.approx(late, abs=0.15)
    assert report.offset_ms == pytest.approx(report.offset_frames * 1000 / 24)
    assert report.correlation > 0.9
    side = "late" if late > 0 else "early"
    expected = (
        [f"the picture is {abs(report.offset_frames):.1f} frames {side}"]
        if abs(report.offset_frames) > 2
        else []
    )
    assert report.complaints() == expected
    assert report.verdict == ("bad" if expected else "good")


@pytest.mark.parametrize("late", [-25, -20, 20, 25])
def test_an_offset_beyond_the_reach_is_named_as_such(spans: list[PhonemeSpan], late: int) -> None:
    # 0.8 and 1 s; the reach is 0.6 s. The syllables must not repeat within it.
    starts_s = np.cumsum([0.7, 0.11, 0.31, 0.12, 0.5, 0.9, 0.13, 0.27, 0.4] * 3)
    names = ("AA", "M", "EH", "P", "AA", "IY", "B", "AA", "OW") * 3
    irregular = [PhonemeSpan(name, s, s + 0.1) for name, s in zip(names, starts_s.tolist(), strict=True)]
    report = compare(mouth_of(irregular, late), irregular)
    assert report.beyond_reach
    assert report.complaints()[0].startswith("the picture is more than 600 ms early or late")
    assert report.verdict == "bad"
    assert not compare(mouth_of(irregular, 3), irregular).beyond_reach


def test_lips_that_follow_do_every_closure_and_rest_in_silence(spans: list[PhonemeSpan]) -> None:
    report = compare(mouth_of(spans), spans)
    assert len(report.closures_found_s) == sum(span.phoneme == "M" for span in spans)
    assert report.closures_missed_s == ()
    assert report.still_in_silence == 1
    assert (report.face_share, report.frames, report.jitter) == (1, 288, 0.001)
    assert report.spoken_s == pytest.approx(sum(span.end_s - span.start_s for span in spans))
    assert (report.evidence, report.certainty) == ("phonemes", 1)


def test_closures_are_counted_where_the_picture_shows_them(spans: list[PhonemeSpan]) -> None:
    late = compare(mouth_of(spans, 6), spans)
    assert late.closures_missed_s == () and len(late.closures_found_s) > 10


def test_neighbouring_closures_are_one_and_their_times_are_those_of_the_sounds() -> None:
    sounds = spoken(("AA", 0.4), ("M", 0.08), ("B", 0.06), ("AA", 0.4), ("P", 0.08), ("AA", 0.4))
    report = compare(mouth_of(sounds), sounds)
    assert report.closures_found_s == (pytest.approx(0.47), pytest.approx(0.98))


def test_lips_that_never_meet_miss_every_closure(spans: list[PhonemeSpan]) -> None:
    mouth = mouth_of(spans)
    report, in_sync = compare(changed(mouth, np.maximum(mouth.opening, 0.1)), spans), compare(mouth, spans)
    assert report.closures_missed_s == in_sync.closures_found_s
    assert report.closures_found_s == ()
    total = len(report.closures_missed_s)
    assert f"{total} of {total} closures of p, b, m are missed" in report.complaints()
    assert report.verdict == "doubtful"


def test_a_closure_that_is_only_heard_may_be_an_error(spans: list[PhonemeSpan]) -> None:
    mouth = mouth_of(spans)
    (first, *_) = (span for span in spans if span.phoneme == "M")
    opening = mouth.opening.copy()
    frame = round(first.start_s * 24)
    opening[frame - 4 : frame + 8] = 0.2
    few = [span for span in spans if span.end_s < first.end_s + 1]
    short = MouthTrack(opening[:48], 0.0, FPS)
    assert any("missed" in line for line in compare(short, few, "phonemes").complaints())
    assert not any("missed" in line for line in compare(short, few, "sound", 0.8).complaints())


@pytest.mark.parametrize("opening", [np.full(288, 0.1), np.random.default_rng(0).random(288)])
def test_a_mouth_that_does_not_follow_the_speech_is_reported(
    spans: list[PhonemeSpan], opening: np.ndarray
) -> None:
    report = compare(MouthTrack(opening, 0.0, FPS), spans)
    assert report.correlation < 0.4
    assert "does not follow" in report.complaints()[0]
    assert report.verdict == "bad"


def test_a_mouth_that_moves_in_silence_hardly_or_nervously_is_reported(spans: list[PhonemeSpan]) -> None:
    mouth = mouth_of(spans)
    rows = np.arange(len(mouth.opening))
    pauses = compare(
        changed(mouth, mouth.opening + 0.03 + 0.03 * np.sin(rows)), [s for s in spans if s.start_s < 6]
    )
    assert any("of the silence" in line for line in pauses.complaints())
    small = compare(changed(mouth, 0.1 * mouth.opening), spans)
    assert small.complaints() == [f"the mouth hardly moves (by {small.opening_range:.3f} outer-eye widths)"]
    noise = np.random.default_rng(0).uniform(-0.15, 0.15, len(rows))
    nervous = compare(changed(mouth, np.maximum(mouth.opening + noise, 0)), spans)
    assert any("is nervous" in line for line in nervous.complaints())
    # Alternating openings a and 0 at a rate f have the acceleration 2 a f^2, in ranges 2 f^2.
    flutter = compare(changed(mouth, 0.1 * (rows % 2)), spans)
    assert flutter.nervousness == pytest.approx(2 * 24**2, rel=0.01)


def test_without_speech_there_is_nothing_to_follow() -> None:
    report = compare(MouthTrack(0.1 * np.ones(288), 0.0, FPS), [])
    assert "no speech is heard in the sound" in report.complaints()
    assert report.spoken_s == 0


def test_pauses_alone_are_no_lip_sync() -> None:
    """A mouth that only opens while somebody speaks."""
    words = ("AA", 0.11), ("T", 0.06), ("EH", 0.14), ("S", 0.09), ("OW", 0.17), ("L", 0.05)
    sounds = spoken(*(("SIL", 1.5), *words * 5, ("SIL", 1.5), *words * 6) * 2)
    at_s = (np.arange(round(sounds[-1].end_s * 24)) + 0.5) / 24
    speaks = np.array([any(s.start_s <= t < s.end_s and s.phoneme != "SIL" for s in sounds) for t in at_s])
    opening = 0.1 * np.convolve(speaks, np.hanning(19) / 9, "same")
    jaw = mouth_shape(coarticulate(sounds, len(at_s), FPS))[:, 0]
    assert np.corrcoef(opening, jaw)[0, 1] > 0.6
    assert compare(MouthTrack(opening, 0.001, FPS), sounds).correlation < 0.4


def test_frames_without_a_face_are_bridged_and_too_many_are_reported(spans: list[PhonemeSpan]) -> None:
    mouth = mouth_of(spans)
    opening = mouth.opening.copy()
    opening[20:24] = np.nan
    report = compare(changed(mouth, opening), spans)
    assert report.face_share == pytest.approx(284 / 288)
    assert report.offset_frames == pytest.approx(0, abs=0.1)
    assert report.complaints() == []
    opening[100:] = np.nan
    assert "a face in only 33% of the frames" in compare(changed(mouth, opening), spans).complaints()


def test_the_report_is_json_and_judges_by_its_limit(spans: list[PhonemeSpan]) -> None:
    report = compare(mouth_of(spans, 5), spans)
    assert report.as_json()["fps"] == "24"
    assert report.as_json()["complaints"] == report.complaints() != []
    assert report.as_json()["verdict"] == "bad"
    lax = replace(report, max_offset_frames=6.0).as_json()
    assert (lax["complaints"], lax["verdict"]) == ([], "good")


def test_frames_in_their_places_stay_as_they_are() -> None:
    opening = np.random.default_rng(0).random(50)
    same, fps = at_steady_rate(opening, 3 + np.arange(50) / 25, Fraction(25))
    assert fps == 25 and np.array_equal(same, opening.astype(np.float32))


def test_a_variable_rate_becomes_steady_by_the_times_of_the_frames() -> None:
    at_s = np.arange(240) / 24
    kept = np.sort(np.random.default_rng(1).permutation(239)[:170])
    wave = 0.1 + 0.1 * np.sin(2 * np.pi * at_s)
    steady, fps = at_steady_rate(wave[kept], at_s[kept], Fraction(17))
    assert fps == 24
    first = kept[0]
    assert np.abs(steady - wave[first : first + len(steady)]).max() < 0.02


def test_the_picture_stays_in_a_gap() -> None:
    at_s = np.concatenate([np.arange(48), np.arange(72, 120)]) / 24
    opening = np.linspace(0, 1, 96)
    steady, fps = at_steady_rate(opening, at_s, Fraction(20))
    assert fps == 24 and len(steady) == 120
    assert np.ptp(steady[47:72]) == 0 and steady[72] == pytest.approx(opening[48])
    opening[10] = np.nan
    assert np.flatnonzero(np.isnan(at_steady_rate(opening, at_s, Fraction(20))[0])).tolist() == [10]


def test_the_plot_shows_found_and_missed_closures_in_their_colours(
    tmp_path: Path, spans: list[PhonemeSpan]
) -> None:
    from PIL import Image

    def lines(report: SyncReport) -> tuple[bool, bool]:
        """Return whether the plot has green and red pixels."""
        sound = np.random.default_rng(0).uniform(-1, 1, 12 * 24_000).astype(np.float32)
        plot_sync(tmp_path / "sync.png", SyncMeasurement(report, mouth_of(spans), Audio(sound)))
        with Image.open(tmp_path / "sync.png") as picture:
            red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), int), 2, 0)
        return bool((green > np.maximum(red + 50, blue + 20)).any()), bool((red > green + 50).any())

    assert lines(compare(mouth_of(spans), spans)) == (True, False)
    open_lips = MouthTrack(np.maximum(mouth_of(spans).opening, 0.1), 0.0, FPS)
    assert lines(compare(open_lips, spans)) == (False, True)
    assert [path.name for path in tmp_path.iterdir()] == ["sync.png"]
