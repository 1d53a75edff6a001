"""Sentences are joined without clicks and drift, and presets change speed and level."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("num2words", reason="the extra 'speech' is not installed")

from vortex.errors import InputError
from vortex.lipsync.visemes import SILENCE
from vortex.motion.presets import PRESETS
from vortex.speech.base import Utterance, Voice
from vortex.speech.synthesis import LEAD_S, PEAK, PRESET_PROSODY, SENTENCE_PAUSE_S, synthesize

RATE_HZ = 24_000


class Beeper:
    """A speech engine for which each word is a tone of 0.2 s / speed, between pauses of 0.25 s."""

    name = "beeper"
    sample_rate_hz = RATE_HZ
    voices = (Voice("low", "English", "none"),)

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
        self.calls.append((sentence, speed))
        length = round(0.2 / speed * RATE_HZ) * len(sentence.split())
        tone = 0.5 * np.sin(np.arange(length) * 2 * np.pi * 200 / RATE_HZ).astype(np.float32)
        quiet = np.zeros(6000, np.float32)
        return Utterance(
            np.concatenate([quiet, tone, quiet]),
            (SILENCE, "AA", SILENCE),
            np.array([6000, 6000 + length, 12_000 + length]),
        )


def test_a_long_text_keeps_exact_times_and_has_no_clicks() -> None:
    beeper = Beeper()
    text = "one two three. " * 40
    speech = synthesize(text, beeper, voice="low")
    assert len(beeper.calls) == 40
    tones = [span for span in speech.phonemes if span.phoneme == "AA"]
    starts = np.diff([round(span.start_s * RATE_HZ) for span in tones])
    assert len(set(starts.tolist())) == 1
    assert max(abs(np.diff(speech.audio.samples.astype(np.float64)))) < 0.5 * 2 * np.pi * 200 / RATE_HZ * 1.1
    first = round(tones[0].start_s * RATE_HZ)
    assert first == round(LEAD_S * RATE_HZ) + 1200
    for span in tones:
        whole = speech.audio.samples[round(span.start_s * RATE_HZ) : round(span.end_s * RATE_HZ)]
        assert abs(float(np.sqrt((whole**2).mean())) - 0.5 / np.sqrt(2)) < 0.01


def test_a_sentence_that_starts_and_ends_loud_is_faded() -> None:
    class Blunt(Beeper):
        def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
            loud = np.full(4800, 0.5, np.float32)
            return Utterance(loud, ("AA",), np.array([4800]))

    samples = synthesize("one. two.", Blunt(), voice="low").audio.samples
    assert samples.max() == 0.5
    # From silence to full level takes at least 10 ms.
    assert np.abs(np.diff(samples)).max() < 1.1 * 0.5 / (0.01 * RATE_HZ)


def test_the_pause_after_a_paragraph_is_longer() -> None:
    speech = synthesize("one. two.\n\nthree.", Beeper(), voice="low")
    pauses = [span.end_s - span.start_s for span in speech.phonemes if span.phoneme == SILENCE]
    assert len(pauses) == 4
    assert pauses[2] > pauses[1] + 0.3


def test_presets_change_level_and_speed() -> None:
    assert PRESET_PROSODY.keys() == PRESETS.keys()
    level, length = {}, {}
    for preset in PRESETS:
        speech = synthesize("one two three four", Beeper(), voice="low", preset=preset)
        level[preset], length[preset] = float(np.abs(speech.audio.samples).max()), speech.audio.duration_s
    assert level["calm"] < level["neutral"] < level["excited"] < level["manic"] <= PEAK
    assert length["calm"] > length["neutral"] > length["excited"] > length["manic"]


def test_a_strength_scales_speed_and_level() -> None:
    for preset, own in PRESET_PROSODY.items():
        assert own.at_strength(0) == PRESET_PROSODY["neutral"] and own.at_strength(1) == own, preset
    beeper = Beeper()
    synthesize("one two.", beeper, voice="low", preset="manic:0.5")
    assert beeper.calls[0][1] == pytest.approx(1 + 0.5 * (PRESET_PROSODY["manic"].speed - 1))


def test_a_preset_with_a_time_changes_the_speed_there() -> None:
    beeper = Beeper()
    synthesize("one two. " * 6, beeper, voice="low", preset="neutral,manic@2")
    speeds = [speed for _, speed in beeper.calls]
    assert speeds == sorted(speeds)
    assert speeds[0] == 1.0
    assert speeds[-1] == PRESET_PROSODY["manic"].speed


@pytest.mark.parametrize("speed", [0.49, 2.01, float("nan")])
def test_a_speed_out_of_range_is_refused(speed: float) -> None:
    with pytest.raises(InputError, match=r"give 0.5 \(slow\) to 2 \(fast\)"):
        synthesize("one", Beeper(), voice="low", speed=speed)


def test_a_fast_preset_stays_within_the_range_of_speeds() -> None:
    beeper = Beeper()
    synthesize("one", beeper, voice="low", speed=2.0, preset="manic")
    assert beeper.calls == [("one", 2.0)]


def test_a_given_array_is_filled_in_place() -> None:
    wanted = synthesize("one two. three.", Beeper(), voice="low").audio.samples
    output = np.full(len(wanted) + 100, 7, np.float32)
    speech = synthesize("one two. three.", Beeper(), voice="low", output=output)
    assert np.shares_memory(speech.audio.samples, output)
    assert np.array_equal(output[: len(wanted)], wanted)
    assert (output[len(wanted) :] == 7).all()
    with pytest.raises(InputError, match="too short for the speech"):
        synthesize("one two. three.", Beeper(), voice="low", output=output[:9000])
    with pytest.raises(InputError, match="give float32"):
        synthesize("one", Beeper(), voice="low", output=np.zeros(9000))  # type: ignore[arg-type]


def test_an_error_of_on_progress_ends_the_work() -> None:
    beeper = Beeper()

    def on_progress(stage: str, completed: int, total: int) -> None:
        assert (stage, total) == ("speech", 5)
        if completed == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize("one. two. three. four. five.", beeper, voice="low", on_progress=on_progress)
    assert len(beeper.calls) == 2


@pytest.mark.parametrize("pause_s", [0.12, 0.5, 3.0])
def test_a_break_is_silence_of_its_length_at_any_speed(pause_s: float) -> None:
    for speed in (1.0, 1.7):
        speech = synthesize(f'one <break time="{pause_s}s"/> two', Beeper(), voice="low", speed=speed)
        pause = [span for span in speech.phonemes if span.phoneme == SILENCE][1]
        assert pause.end_s - pause.start_s == pytest.approx(pause_s, abs=1 / RATE_HZ)
        inside = speech.audio.samples[round(pause.start_s * RATE_HZ) : round(pause.end_s * RATE_HZ)]
        assert not inside.any()
        assert speech.words == "one two"


def test_what_cannot_be_read_is_noted() -> None:
    speech = synthesize("one 😀 two", Beeper(), voice="low")
    assert speech.words == "one two"
    assert speech.notes == ("not read aloud: 😀 (grinning face)",)


def test_pauses_between_sentences_are_multiplied() -> None:
    def between(pause: float) -> float:
        speech = synthesize("one. two.", Beeper(), voice="low", pause=pause)
        return [span.end_s - span.start_s for span in speech.phonemes if span.phoneme == SILENCE][1]

    assert between(3.0) - between(1.0) == pytest.approx(2 * SENTENCE_PAUSE_S, abs=1e-3)
    with pytest.raises(InputError, match=r"pause is 11; give 0 to 10"):
        synthesize("one.", Beeper(), voice="low", pause=11)
