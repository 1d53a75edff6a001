"""Forced alignment by PocketSphinx: when each sound of known words or known phonemes is spoken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from vortex.errors import AudioError, InputError
from vortex.lipsync.acoustic import ACOUSTIC_HZ
from vortex.lipsync.visemes import IPA_TO_ARPABET, SILENCE
from vortex.types import F32, PhonemeSpan

if TYPE_CHECKING:
    from pocketsphinx import Decoder

MIN_SOUND_S = 0.05
"""PocketSphinx fails on less."""
WIDE_BEAM = 1e-200
"""If PocketSphinx's own beams lose the words, paths are kept up to this likelihood relative to the best."""


def align_transcript(samples: F32, transcript: str) -> list[PhonemeSpan]:
    """Return when each sound of an English text is spoken; ``samples`` (N,) float32 at 16 kHz.

    InputError: no words, or digits in the text. AudioError: the text does not fit the sound.
    """
    spans = WordAligner(transcript).align(samples)
    if not spans:
        raise AudioError(
            "The transcript does not match the speech. Correct it word for word, or give no transcript."
        )
    return spans


class WordAligner:
    """Aligns the words of an English text with the sound. Not safe for threads.

    InputError: no words, or digits in the text.
    """

    def __init__(self, transcript: str) -> None:
        digits = re.search(r"\S*\d\S*", transcript)
        if digits:
            raise InputError(f"The transcript has {digits[0]!r}; write numbers as they are spoken, in words.")
        self.words = re.findall(r"[a-z]+(?:'[a-z]+)*", transcript.lower().replace("\u2019", "'"))
        if not self.words:
            raise InputError(
                f"The transcript {transcript[:40]!r} has no English words; give the words, or no transcript."
            )
        self._decoder = self._load()
        self._wide: Decoder | None = None

    @property
    def phonemes(self) -> list[list[str]]:
        """The sounds of each word, as it is pronounced most often."""
        return [self._decoder.lookup_word(word).split() for word in self.words]

    def align(self, samples: F32, first: int = 0, end: int | None = None) -> list[PhonemeSpan]:
        """Return the sounds of the words ``first`` to ``end``, or none if they do not fit ``samples``."""
        words = self.words[first:end]
        spans = _align(self._decoder, samples, words)
        if not spans:
            self._wide = self._wide or self._load(beam=WIDE_BEAM, pbeam=WIDE_BEAM, wbeam=WIDE_BEAM)
            spans = _align(self._wide, samples, words)
        return spans

    def _load(self, **options: float) -> Decoder:
        """Return a decoder that knows all the words."""
        decoder = _new_decoder(**options)
        for word in dict.fromkeys(self.words):
            if decoder.lookup_word(word) is None:
                decoder.add_word(word, _pronounce(word), True)
        return decoder


class PhonemeAligner:
    """Aligns recognised phonemes, grouped into words, with the sound. Not safe for threads."""

    def __init__(self) -> None:
        # Recognised sounds are uncertain: every second frame of 10 ms is exact enough, and half the work.
        # Reading the dictionary takes a tenth of a second, and these words are not in it.
        self._decoder = _new_decoder(dict=None, ds=2)

    def align(self, samples: F32, words: Sequence[Sequence[str]]) -> list[PhonemeSpan]:
        """Return the sounds of ``words`` in their order, or none if they do not fit ``samples`` at 16 kHz."""
        names = ["+".join(phonemes).lower() for phonemes in words]
        for name, phonemes in zip(names, words, strict=True):
            if self._decoder.lookup_word(name) is None:
                self._decoder.add_word(name, " ".join(phonemes), True)
        return _align(self._decoder, samples, names)


def _align(decoder: Decoder, samples: F32, words: Sequence[str]) -> list[PhonemeSpan]:
    """Return the sounds of ``words`` in their order, or none if they do not fit the sound at all."""
    if len(samples) < MIN_SOUND_S * ACOUSTIC_HZ:
        return []
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        _decode_pcm(decoder, pcm)
        decoder.set_alignment()
        _decode_pcm(decoder, pcm)
        alignment = decoder.get_alignment()
    except RuntimeError:
        return []
    rate = float(decoder.config["frate"])
    # PocketSphinx returns where an analysis window starts; what the window measures is in its middle.
    delay_s = 0.5 * float(decoder.config["wlen"])
    return [
        PhonemeSpan(phone.name, phone.start / rate + delay_s, (phone.start + phone.duration) / rate + delay_s)
        for word in alignment or ()
        for phone in word
        if phone.name not in (SILENCE, "+SPN+", "+NSN+")
    ]


def _new_decoder(**options: float | None) -> Decoder:
    """Return a new decoder: one decoder is not safe for several threads, and keeps the words added to it."""
    from pocketsphinx import Decoder

    # No bestpath: its lattice search fails on long pauses.
    return Decoder(samprate=ACOUSTIC_HZ, lm=None, loglevel="FATAL", bestpath=False, fwdflat=False, **options)


def _decode_pcm(decoder: Decoder, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def pronounce_words(words: Sequence[str]) -> list[list[str]]:
    """Return the ARPAbet sounds of English words in lower case, as they are pronounced most often.

    A word whose pronunciation nothing knows has none.
    """
    decoder = _new_decoder()
    known: dict[str, list[str]] = {}
    for word in dict.fromkeys(words):
        try:
            known[word] = (decoder.lookup_word(word) or _pronounce(word)).split()
        except InputError:
            known[word] = []
    return [known[word] for word in words]


@lru_cache(maxsize=4096)
def _pronounce(word: str) -> str:
    """Return the ARPAbet sounds, with spaces between, of a word that is not in the dictionary."""
    from hama import G2PModel

    result = G2PModel().predict(word)
    sounds = [IPA_TO_ARPABET[a.phoneme] for a in result.alignments if a.phoneme in IPA_TO_ARPABET]
    if not sounds:
        raise InputError(f"The word {word!r} of the transcript has no known pronunciation; respell it.")
    return " ".join(sounds)
