"""``vortex speak``, ``say``, ``voices`` and ``generate``: a text becomes a sound, or a (verified) video."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vortex.cli.animate import OUTPUT_HELP, add_json_option, make_video, print_report, progress_callback
from vortex.cli.options import add_options, parsed_options
from vortex.errors import InputError
from vortex.media.containers import PIPE
from vortex.options import GenerateOptions, OutputOptions, SayOptions, SpeakOptions, SpeechOptions
from vortex.runtime.files import check_new_file, check_output_path, whole_file, write_whole
from vortex.types import ProgressCallback, RenderReport

if TYPE_CHECKING:
    from vortex.session import Session


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file; ``common`` holds the options of every command."""
    speak = commands.add_parser("speak", parents=[common], help="make a video that speaks a text")
    speak.add_argument("portrait", metavar="PORTRAIT", help="picture with a face")
    _add_text_options(speak)
    speak.add_argument("-o", "--output", metavar="OUT.mp4", required=True, help=OUTPUT_HELP)
    _add_phonemes_option(speak)
    add_options(speak, OutputOptions)
    add_options(speak, SpeakOptions)
    add_json_option(speak)
    speak.set_defaults(run=_speak)

    say = commands.add_parser("say", parents=[common], help="speak a text into a sound file")
    _add_text_options(say)
    say.add_argument("-o", "--output", metavar="OUT.wav", required=True)
    _add_phonemes_option(say)
    add_options(say, OutputOptions)
    add_options(say, SayOptions)
    add_json_option(say)
    say.set_defaults(run=_say)

    voices = commands.add_parser("voices", parents=[common], help="list the voices that can speak")
    add_options(voices, SpeechOptions, skip=("voice", "speed", "pause"))
    voices.add_argument("--samples", metavar="FOLDER", help="write a sound file of each voice into a folder")
    add_options(voices, OutputOptions)
    voices.add_argument("--json", action="store_true", help="print the list as JSON")
    voices.set_defaults(run=_voices)

    generate = commands.add_parser(
        "generate", parents=[common], help="make a verified video from a prompt and a text"
    )
    generate.add_argument("--image", metavar="FILE", help="use this picture instead of drawing one")
    _add_text_options(generate, "--text")
    generate.add_argument("-o", "--output", metavar="OUT.mp4", required=True, help=OUTPUT_HELP)
    generate.add_argument(
        "--report", metavar="JSON", help="where the report goes (default: beside the video)"
    )
    generate.add_argument("--timeline", metavar="PNG", help="draw when each stage ran")
    add_options(generate, OutputOptions)
    add_options(generate, GenerateOptions)
    add_json_option(generate)
    generate.set_defaults(run=_generate)


def _add_text_options(parser: argparse.ArgumentParser, option: str = "text") -> None:
    more: dict[str, Any] = {} if option.startswith("-") else {"nargs": "?"}
    parser.add_argument(option, metavar="TEXT", help="the English text to speak", **more)
    parser.add_argument(
        "--text-file", metavar="FILE", help="read the text from a file, or - for standard input"
    )


def _add_phonemes_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--phonemes", metavar="JSON", help="write the exact times of the sounds, for check")


def _given_text(args: argparse.Namespace) -> str:
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
    options, force = parsed_options(args, SpeakOptions), parsed_options(args, OutputOptions).force
    text = _given_text(args)

    def make(session: Session, on_progress: ProgressCallback) -> RenderReport:
        report, speech = session.speak(
            args.portrait, text, args.output, options, force=force, on_progress=on_progress
        )
        _write_phonemes(args.phonemes, speech)
        return report

    if Path(args.output) != PIPE:
        check_new_file(Path(args.output), "Output", force=force, inputs=(args.portrait, args.text_file))
    _check_sidecar(args, args.phonemes, ".json", "Phonemes")
    return make_video(args, console, options, make)


def _say(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.media.audio import check_wav_path, write_wav
    from vortex.session import Session

    options = parsed_options(args, SayOptions)
    text = _given_text(args)
    force = parsed_options(args, OutputOptions).force
    check_wav_path(Path(args.output))
    check_new_file(Path(args.output), "Output", force=force, inputs=(args.text_file,))
    _check_sidecar(args, args.phonemes, ".json", "Phonemes")
    with Session() as session:
        speech = session.say(text, options, options.preset, on_progress=progress_callback(args, console))
    write_wav(Path(args.output), speech.audio)
    _write_phonemes(args.phonemes, speech)
    duration_s = float(speech.audio.duration_s)
    if args.json:
        said = {"path": args.output, "duration_s": duration_s, "words": speech.words}
        print(json.dumps({**said, "notes": list(speech.notes)}))
    else:
        if console.isatty():
            print(file=console)
        print(f"{args.output}: {duration_s:.2f} s, {speech.voice}", file=console)
        for note in speech.notes:
            print(f"  {note}", file=console)
    return 0


def _check_sidecar(args: argparse.Namespace, path: str | Path | None, suffix: str, what: str) -> None:
    """Refuse a further file of a command that cannot be written, or would replace another one."""
    if path is None:
        return
    check_output_path(Path(path), (suffix,), what)
    inputs = (getattr(args, name, None) for name in ("portrait", "image", "text_file"))
    check_new_file(Path(path), what, force=parsed_options(args, OutputOptions).force, inputs=inputs)


def _write_phonemes(path: str | None, speech: Any) -> None:
    if path:
        rows = [{"phone": s.phoneme, "start_s": s.start_s, "end_s": s.end_s} for s in speech.phonemes]
        write_whole(Path(path), json.dumps(rows))


def _voices(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.speech.registry import list_voices

    name = parsed_options(args, SpeechOptions).speech_engine
    voices = list_voices(name)
    if args.samples is not None:
        _write_samples(args, console, name, [voice.name for voice in voices])
    elif args.json:
        print(json.dumps([asdict(voice) for voice in voices]))
    else:
        for voice in voices:
            print(f"{voice.name:<12} {voice.language}, {voice.gender}")
        if name == "kokoro":
            print("vortex: kokoro-fp32 has more. Run: vortex weights fetch kokoro", file=console)
    return 0


def _write_samples(args: argparse.Namespace, console: TextIO, engine: str, voices: list[str]) -> None:
    """Let each voice say the sample text, in a WAV file of its name."""
    from vortex.media.audio import write_wav
    from vortex.session import Session
    from vortex.speech.base import SAMPLE_TEXT

    folder, force = Path(args.samples), parsed_options(args, OutputOptions).force
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"Folder '{folder}' cannot be made ({exc.strerror}). Choose another one.") from exc
    paths = {voice: folder / f"{voice}.wav" for voice in voices}
    for path in paths.values():
        check_output_path(path, (".wav",), "Sample")
        check_new_file(path, "Sample", force=force)
    with Session() as session:
        for voice, path in paths.items():
            args.stop.check()
            speech = session.say(SAMPLE_TEXT, SpeechOptions(voice=voice, speech_engine=engine))
            write_wav(path, speech.audio)
            if not args.json:
                print(path, file=console)
    if args.json:
        print(json.dumps({voice: str(path) for voice, path in paths.items()}))


def _generate(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.generate.request import GenerateRequest, plot_timeline
    from vortex.generate.run import check_verifiable, run_generate
    from vortex.runtime.memory import ModelCache
    from vortex.session import Session

    options = parsed_options(args, GenerateOptions)
    request = GenerateRequest(_given_text(args), args.image, options)
    report_path = Path(args.report) if args.report else Path(args.output).with_suffix(".json")
    force = parsed_options(args, OutputOptions).force
    check_new_file(Path(args.output), "Output", force=force, inputs=(args.image, args.text_file))
    check_verifiable(Path(args.output))
    _check_sidecar(args, report_path, ".json", "Report")
    _check_sidecar(args, args.timeline, ".png", "Timeline")
    quiet = args.json or not console.isatty()
    log = None if quiet else lambda line: print(f"\r\x1b[2Kvortex: {line}", file=console)
    models = ModelCache(options.memory_gb, log)
    started_s = time.perf_counter()
    # All files get their names at the end, one right after the other: a kill before leaves none of them.
    with ExitStack() as files, Session(models=models) as session:
        video = files.enter_context(whole_file(Path(args.output)))
        report = run_generate(
            request,
            args.output,
            session=session,
            force=force,
            part=video,
            on_progress=progress_callback(args, console),
        )
        content = json.dumps(report.as_json(), indent=1)
        files.enter_context(whole_file(report_path)).write_text(content, encoding="utf-8")
        if args.timeline:
            timeline = files.enter_context(whole_file(Path(args.timeline)))
            plot_timeline(timeline, report.spans_s, title=Path(args.output).name)
    if args.json:
        print(json.dumps(report.as_json()))
    else:
        print_report(args, console, report.video, time.perf_counter() - started_s)
        _print_verification(report, report_path, console)
    return 1 if report.complaints else 0


def _print_verification(report: Any, report_path: Path, console: TextIO) -> None:
    if sync := report.sync:
        found, missed = len(sync.closures_found_s), len(sync.closures_missed_s)
        print(
            f"lip-sync: offset {sync.offset_frames:+.2f} frames, correlation {sync.correlation:.2f}, "
            f"{found} of {found + missed} closures",
            file=console,
        )
    if report.clip:
        print(f"CLIP: {report.clip.score:.3f} for the prompt", file=console)
    for complaint in report.complaints:
        print(f"vortex: {complaint}", file=console)
    print(f"report: {report_path}", file=console)
