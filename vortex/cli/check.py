"""``vortex check``: the lip-sync of a finished video."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from vortex.errors import InputError
from vortex.types import PhonemeSpan


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    check = commands.add_parser("check", parents=[common], help="measure the lip-sync of a finished video")
    check.add_argument("video", metavar="VIDEO", help="any video with one talking face")
    check.add_argument("--transcript", metavar="TEXT", help="the English words spoken, for exact closures")
    check.add_argument("--phonemes", metavar="FILE", help="JSON list of {phone, start_s, end_s}, ARPAbet")
    check.add_argument("--max-offset-frames", type=float, default=2.0, metavar="N", help="default 2")
    check.add_argument("--plot", metavar="PNG", help="draw the opening of the lips over the waveform")
    check.add_argument("--json", action="store_true", help="print the figures as JSON")
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.check import check_video, plot_sync

    phonemes = read_phonemes(Path(args.phonemes)) if args.phonemes else None
    report, mouth, audio = check_video(args.video, transcript=args.transcript, phonemes=phonemes)
    complaints = report.complaints(args.max_offset_frames)
    if args.plot:
        plot_sync(Path(args.plot), report, mouth, audio)
    if args.json:
        figures = {**asdict(report), "fps": str(report.fps), "complaints": complaints}
        print(json.dumps(figures))
    else:
        found, missed = len(report.closures_found_s), report.closures_missed_s
        still = "-" if report.still_in_silence is None else f"{report.still_in_silence:.0%}"
        print(
            f"offset       {report.offset_ms:+.0f} ms ({report.offset_frames:+.2f} frames; + is late picture)"
        )
        print(f"correlation  {report.correlation:.2f}")
        print(
            f"closures     {found} of {found + len(missed)} of p, b, m"
            + "".join(f"  missed {t} s" for t in missed)
        )
        print(f"silence      lips still in {still} of it")
        print(f"jitter       {1000 * report.jitter:.1f} thousandths of the outer-eye width")
        print(f"face         in {report.face_share:.0%} of {report.frames} frames")
    for complaint in complaints:
        print(f"vortex: {complaint}", file=console)
    return 1 if complaints else 0


def read_phonemes(path: Path) -> list[PhonemeSpan]:
    """Read a JSON list of {phone, start_s, end_s}.

    Raises:
        InputError: no such file, or another content.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [PhonemeSpan(str(r["phone"]), float(r["start_s"]), float(r["end_s"])) for r in rows]
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise InputError(
            f"Phonemes '{path}' cannot be read ({exc}). Give a JSON list of {{phone, start_s, end_s}}."
        ) from exc
