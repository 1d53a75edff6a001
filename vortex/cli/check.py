"""``vortex check``: the lip-sync of a finished video."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vortex.cli.options import add_options, parsed_options
from vortex.errors import InputError
from vortex.options import CheckOptions, OutputOptions
from vortex.runtime.files import check_new_file, check_output_path
from vortex.types import PhonemeSpan

if TYPE_CHECKING:
    from vortex.lipsync.sync import SyncReport


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file; ``common`` holds the options of every command."""
    check = commands.add_parser("check", parents=[common], help="measure the lip-sync of a finished video")
    check.add_argument("video", metavar="VIDEO", help="any video with one talking face")
    check.add_argument("--phonemes", metavar="FILE", help="JSON list of {phone, start_s, end_s}, ARPAbet")
    add_options(check, CheckOptions)
    check.add_argument("--plot", metavar="PNG", help="draw the opening of the lips over the waveform")
    add_options(check, OutputOptions)
    check.add_argument("--json", action="store_true", help="print the figures as JSON")
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace, _console: TextIO) -> int:
    from vortex.lipsync.sync import measure_sync, plot_sync

    options = parsed_options(args, CheckOptions)
    if args.plot:
        check_output_path(Path(args.plot), (".png",), "Plot")
        force = parsed_options(args, OutputOptions).force
        check_new_file(Path(args.plot), "Plot", force=force, inputs=(args.video, args.phonemes))
    phonemes = read_phonemes(Path(args.phonemes)) if args.phonemes else None
    measured = measure_sync(
        args.video,
        transcript=options.transcript,
        phonemes=phonemes,
        max_offset_frames=options.max_offset_frames,
    )
    report = measured.report
    if args.plot:
        plot_sync(Path(args.plot), measured)
    if args.json:
        print(json.dumps(report.as_json()))
    else:
        _print_figures(report)
    return 1 if report.complaints() else 0


def _print_figures(report: SyncReport) -> None:
    found, missed = len(report.closures_found_s), report.closures_missed_s
    still = report.still_in_silence
    silence = "too little of it" if still is None else f"lips still in {still:.0%}"
    heard = {"phonemes": "given phonemes", "transcript": "aligned transcript"}.get(
        report.evidence, f"heard in the sound, {report.certainty:.0%} sure"
    )
    at = "".join(f"  missed {t} s" for t in missed)
    print(f"offset       {report.offset_ms:+.0f} ms ({report.offset_frames:+.2f} frames; + is late picture)")
    print(f"correlation  {report.correlation:.2f}")
    print(f"closures     {found} of {found + len(missed)} of p, b, m ({heard}){at}")
    print(f"silence      {silence}")
    print(
        f"movement     {report.opening_range:.3f} outer-eye widths, {report.nervousness:.0f} ranges per s^2"
    )
    print(f"jitter       {1000 * report.jitter:.1f} thousandths of the outer-eye width")
    print(f"face         in {report.face_share:.0%} of {report.frames} frames")
    print(f"verdict      {report.verdict}: {'; '.join(report.complaints()) or 'in sync'}")


def read_phonemes(path: Path) -> list[PhonemeSpan]:
    """Read a JSON list of {phone, start_s, end_s}; InputError if the file has something else."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [PhonemeSpan(str(r["phone"]), float(r["start_s"]), float(r["end_s"])) for r in rows]
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise InputError(
            f"Phonemes '{path}' cannot be read ({exc}). Give a JSON list of {{phone, start_s, end_s}}."
        ) from exc
