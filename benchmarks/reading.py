"""How much of what is said an independent recogniser hears: each line of the readings, spoken and recognised.

PocketSphinx decodes the sound with its own dictionary and language model of US English. It also mishears
people, so lines with numbers, signs and abbreviations stand beside plain sentences in the same voice.
"""

from __future__ import annotations

import argparse
import re
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from pocketsphinx import Decoder

from vortex.media.audio import resample
from vortex.options import SpeechOptions
from vortex.session import Session

READINGS = Path(__file__).with_name("readings.txt")
PLAIN = (
    "The quick brown fox jumps over the lazy dog.",
    "She sells sea shells by the sea shore.",
    "It was a bright cold day and the clocks were striking.",
    "Please call me when you get home tonight.",
    "The children played in the garden until the sun went down.",
    "We will meet again next week at the same place.",
    "He opened the door and looked out into the street.",
    "There is a book on the table near the window.",
)
HEARD_HZ = 16_000
CARRIER = "Then they said: {} And then they left."
"""A recogniser hears a few words better inside a sentence; its own words are not counted."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, letters of an abbreviation one by one."""
    found = []
    for word in re.findall(r"[A-Za-z']+", text):
        found += list(word.lower()) if word.isupper() and len(word) > 1 else [word.lower().strip("'")]
    return [word for word in found if word]


def heard(decoder: Decoder, samples: np.ndarray) -> list[str]:
    """Return the words that the recogniser hears in sound at HEARD_HZ."""
    decoder.start_utt()
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return [] if found is None else words_of(found.hypstr.replace(".", " "))


def share_heard(said: list[str], found: list[str]) -> tuple[int, int]:
    """Return how many of the words that were said were heard in their order, and how many were said."""
    blocks = SequenceMatcher(None, said, found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks), len(said)


def main() -> None:
    """Print the share of words heard, of the readings and of plain sentences, and the lines heard worst."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voice", default="af_heart")
    parser.add_argument("--worst", type=int, default=15, metavar="N", help="show the N lines heard worst")
    args = parser.parse_args()
    decoder = Decoder(loglevel="FATAL", samprate=HEARD_HZ)
    lines = [line.split("\t") for line in READINGS.read_text().splitlines() if not line.startswith("#")]
    sets = {"readings": lines, "plain sentences": [(sentence, sentence) for sentence in PLAIN]}
    with Session() as session:
        for name, pairs in sets.items():
            rows = []
            for written, spoken in pairs:
                text = CARRIER.format(written.rstrip(".") + ".") if name == "readings" else written
                speech = session.say(text, SpeechOptions.parse(voice=args.voice))
                sound = resample(speech.audio.samples, speech.audio.sample_rate, HEARD_HZ)
                rows.append((*share_heard(words_of(spoken), heard(decoder, sound)), written))
            right, total = sum(row[0] for row in rows), sum(row[1] for row in rows)
            print(f"{name}: {right} of {total} words heard, {right / total:.2f}, in {len(rows)} lines")
            for found, said, written in sorted(rows, key=lambda row: row[0] / row[1])[: args.worst]:
                print(f"  {found}/{said}  {written}")


if __name__ == "__main__":
    main()
