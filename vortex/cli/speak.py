"""``vortex speak`` and ``vortex voices``: a picture and a text become a video."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from vortex.cli.animate import add_render_options, chosen_engine, print_report, progress_hook
from vortex.errors import InputError

DEFAULT_VOICE = "af_heart"


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    speak = commands.add_parser("speak", parents=[common], help="make a video that speaks a text")
    speak.add_argument("portrait", metavar="PORTRAIT", help="picture with a face")
    add_text_options(speak)
    speak.add_argument("-o", "--output", metavar="OUT.mp4", required=True)
    speak.add_argument("--phonemes", metavar="JSON", help="write the exact times of the sounds, for check")
    add_render_options(speak)
    speak.set_defaults(run=_speak)

    voices = commands.add_parser("voices", parents=[common], help="list the voices that can speak")
    voices.add_argument("--speech-engine", default="kokoro", metavar="NAME", help="kokoro or kokoro-fp32")
    voices.add_argument("--json", action="store_true", help="print the list as JSON")
    voices.set_defaults(run=_voices)


def add_text_options(parser: argparse.ArgumentParser, *, option: str = "text") -> None:
    """Add the options of every command that speaks a text; ``option`` is how the text itself is given."""
    add = parser.add_argument
    if option.startswith("-"):
        add(option, metavar="TEXT", help="the English text to speak")
    else:
        add(option, nargs="?", metavar="TEXT", help="the English text to speak")
    add("--text-file", metavar="FILE", help="read the text from a file, or - for standard input")
    add("--voice", default=DEFAULT_VOICE, metavar="NAME", help=f"see vortex voices (default {DEFAULT_VOICE})")
    add("--speed", type=float, default=1.0, metavar="X", help="0.5 (slow) to 2 (fast), default 1")
    add("--speech-engine", default="kokoro", metavar="NAME", help="kokoro (default) or kokoro-fp32")


def given_text(args: argparse.Namespace) -> str:
    """Return the text of the arguments.

    Raises:
        InputError: none or two were given, or the file cannot be read.
    """
    if (args.text is None) == (args.text_file is None):
        raise InputError("Give the text to speak either on the command line or with --text-file.")
    if args.text_file is None:
        return str(args.text)
    try:
        if args.text_file == "-":
            return sys.stdin.read()
        return Path(args.text_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise InputError(
            f"Text '{args.text_file}' cannot be read ({reason}). Give a UTF-8 text file."
        ) from exc


def _speak(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.production import speak_file

    text = given_text(args)
    if args.phonemes and not Path(args.phonemes).parent.is_dir():
        raise InputError(
            f"The folder of '{args.phonemes}' does not exist. Create it first, or write elsewhere."
        )
    started_s = time.perf_counter()
    report, speech = speak_file(
        args.portrait,
        text,
        args.output,
        voice=args.voice,
        speed=args.speed,
        speech_engine=args.speech_engine,
        engine=chosen_engine(args, console),
        preset=args.preset,
        fps=args.fps,
        size_px=args.size,
        duration_s=args.duration,
        seed=args.seed,
        paste_back=args.paste_back,
        device=args.device,
        quality=args.quality,
        mark=not args.no_mark,
        hook=progress_hook(args, console),
    )
    if args.phonemes:
        rows = [{"phone": s.phoneme, "start_s": s.start_s, "end_s": s.end_s} for s in speech.phonemes]
        Path(args.phonemes).write_text(json.dumps(rows), encoding="utf-8")
    print_report(args, console, report, time.perf_counter() - started_s)
    return 0


def _voices(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.extras.kokoro import list_voices

    voices = list_voices(args.speech_engine)
    if args.json:
        print(json.dumps([{"name": v.name, "language": v.language, "gender": v.gender} for v in voices]))
    else:
        for voice in voices:
            print(f"{voice.name:<12} {voice.language}, {voice.gender}")
        if args.speech_engine == "kokoro":
            print("vortex: kokoro-fp32 has more. Run: vortex weights fetch kokoro", file=console)
    return 0
