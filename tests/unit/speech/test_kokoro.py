"""Kokoro's words, times, pitch and voices, compared with another recogniser and with forced alignment."""

from __future__ import annotations

import difflib
import hashlib
import re
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra 'speech' is not installed")
pytest.importorskip("misaki", reason="the extra 'speech' is not installed")

from vortex.errors import EngineError, InputError, MissingExtraError, WeightsMissingError
from vortex.lipsync.alignment import align_transcript
from vortex.lipsync.visemes import SILENCE
from vortex.media.audio import loudness_db, resample
from vortex.speech import kokoro
from vortex.speech.base import Speech, Voice
from vortex.speech.kokoro import Kokoro
from vortex.speech.registry import find_speech_engine, list_voices
from vortex.speech.synthesis import synthesize

RATE_HZ = 24_000
TEXT = (
    "My mother baked a big apple pie, and Bob wrapped up five papers. It was a beautiful morning in Boston."
)


@pytest.fixture(scope="module")
def engine() -> Kokoro:
    return Kokoro("kokoro")


@pytest.fixture(scope="module")
def speech(engine: Kokoro) -> Speech:
    return synthesize(TEXT, engine)


def test_another_recogniser_finds_the_words(speech: Speech) -> None:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=16_000, loglevel="FATAL")
    sound = resample(speech.audio.samples, RATE_HZ, 16_000)
    decoder.start_utt()
    decoder.process_raw((sound * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    found = re.sub(r"\(\d\)", "", decoder.hyp().hypstr).split()
    wanted = re.findall(r"[a-z]+", TEXT.lower())
    matched = sum(block.size for block in difflib.SequenceMatcher(None, wanted, found).get_matching_blocks())
    assert matched / len(wanted) >= 0.75, found


def test_the_phonemes_cover_the_speech_to_the_sample(speech: Speech) -> None:
    edges = [0.0, *(span.end_s for span in speech.phonemes)]
    assert [span.start_s for span in speech.phonemes] == edges[:-1]
    lengths = np.rint(np.diff(edges) * RATE_HZ).astype(int)
    assert lengths.min() > 0
    assert lengths.sum() == len(speech.audio.samples)
    assert speech.audio.sample_rate == RATE_HZ


def test_forced_alignment_finds_the_phonemes_at_their_times(speech: Speech) -> None:
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
    # The aligner itself works in steps of 10 ms and is right within 20 to 30 ms.
    assert abs(np.median(late_s)) < 0.02
    assert np.percentile(np.abs(late_s), 80) < 0.06


def test_pauses_are_silent_and_vowels_are_loud(speech: Speech) -> None:
    for span in speech.phonemes:
        first, last = round(span.start_s * RATE_HZ), round(span.end_s * RATE_HZ)
        if span.phoneme == SILENCE and last - first > 4800:
            middle = speech.audio.samples[first + 1200 : last - 1200]
            assert np.abs(middle).max() < 0.01
        if span.phoneme in ("AA", "AE", "AY", "AO", "EY") and last - first > 1200:
            assert loudness_db(speech.audio.samples, np.array([first, last]))[0] > -35


def test_the_same_text_gives_the_same_samples_in_another_engine(engine: Kokoro) -> None:
    once = engine.say("Good morning.", voice="am_michael")
    again = Kokoro("kokoro").say("Good morning.", voice="am_michael")
    assert np.array_equal(once.samples, again.samples)
    assert once.phonemes == again.phonemes


def test_a_female_and_a_male_voice_differ_in_pitch(engine: Kokoro) -> None:
    def pitch_hz(voice: str) -> float:
        samples = engine.say("We were away a year ago.", voice=voice).samples
        frame = samples[len(samples) // 2 - 3000 : len(samples) // 2 + 3000].astype(np.float64)
        correlation = np.correlate(frame, frame, "full")[len(frame) - 1 :]
        low, high = RATE_HZ // 350, RATE_HZ // 70
        return RATE_HZ / (low + int(correlation[low:high].argmax()))

    assert pitch_hz("af_heart") > 150 > pitch_hz("am_michael")


def test_speed_divides_the_length(engine: Kokoro) -> None:
    text = "A quiet old mill."
    lengths = [len(engine.say(text, voice="af_heart", speed=speed).samples) for speed in (0.5, 1.0, 2.0)]
    assert lengths[0] > 1.5 * lengths[1] > 1.5 * 1.4 * lengths[2]


def test_a_text_too_long_for_the_model_is_cut_at_pauses() -> None:
    symbols = ", ".join(["ə bˈɪɡ ˈæpəl pˈI"] * 60)
    parts = list(kokoro._split_symbols(symbols))
    assert len(parts) > 1
    assert all(len(part) <= kokoro.MAX_SYMBOLS for part in parts)
    assert all(part.endswith(",") for part in parts[:-1])
    assert " ".join(parts) == symbols
    assert "".join(kokoro._split_symbols("a" * 1200)) == "a" * 1200


def test_the_packaged_voices_are_the_published_ones() -> None:
    notice = (Path(kokoro.__file__).parents[1] / "data" / "README.md").read_text()
    digest = hashlib.sha256(kokoro.PACKAGED_VOICES.read_bytes()).hexdigest()
    assert digest in notice
    assert [voice.name for voice in list_voices()] == ["af_heart", "am_michael", "bf_emma", "bm_george"]
    assert list_voices()[3] == Voice("bm_george", "British English", "male")


def test_messages_name_the_command_that_installs_what_is_missing(
    engine: Kokoro, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissingError, match="vortex weights fetch kokoro"):
        find_speech_engine("kokoro-fp32").load()
    with pytest.raises(InputError, match="kokoro and kokoro-fp32"):
        find_speech_engine("espeak")
    with pytest.raises(InputError, match="af_heart, am_michael, bf_emma, bm_george; kokoro-fp32 has more"):
        engine.say("Hello.", voice="nobody")
    monkeypatch.setattr(kokoro, "MODEL_PACKAGES", ("no_such_model_part",))
    with pytest.raises(MissingExtraError, match=r"pip install 'vortex-portrait\[speech\]'"):
        Kokoro("kokoro")


def test_durations_that_do_not_match_the_samples_are_refused() -> None:
    class Session:
        def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            symbols = inputs["tokens"].shape[1]
            return np.zeros(600 * symbols, np.float32), np.full((1, symbols), 2.0, np.float32)

    broken = Kokoro("kokoro")
    broken._session = Session()
    with pytest.raises(EngineError, match="durations"):
        broken.say("Hello.", voice="af_heart")


def test_threads_get_the_same_samples_as_one_alone(engine: Kokoro) -> None:
    alone = engine.say("Hello there.", voice="bf_emma").samples
    spoken: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: spoken.append(engine.say("Hello there.", voice="bf_emma").samples))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spoken) == 3
    assert all(np.array_equal(samples, alone) for samples in spoken)
