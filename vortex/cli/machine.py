"""``vortex weights``, ``doctor`` and ``bench``: what this machine has, what can run here, and how fast."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

from vortex.audio_motion.base import AudioMotionSpec
from vortex.audio_motion.registry import AUDIO_MOTIONS
from vortex.cli.console import progress_line
from vortex.engines.registry import engine_specs, find_engine
from vortex.errors import InputError, VortexError
from vortex.extras import EXTRAS, why_not_installed
from vortex.version import __version__


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file; ``common`` holds the options of every command."""
    weights = commands.add_parser("weights", parents=[common], help="fetch and verify network weights")
    weights.add_argument("action", choices=("fetch", "verify", "list", "path"))
    weights.add_argument(
        "name", nargs="?", default="liveportrait", metavar="NAME", help="default liveportrait"
    )
    weights.add_argument(
        "--deep", action="store_true", help="verify liveportrait: also render one frame and judge it"
    )
    weights.add_argument("--device", metavar="NAME", help="with --deep: where to render; default, a GPU")
    weights.set_defaults(run=_weights)

    doctor = commands.add_parser("doctor", parents=[common], help="tell what can run here, and why not")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)

    bench = commands.add_parser("bench", parents=[common], help="measure this machine (needs a checkout)")
    bench.add_argument("names", nargs="*", metavar="NAME", help="default, those that need no extra")
    bench.add_argument("--record", action="store_true", help="append the records to benchmarks/records")
    bench.set_defaults(run=_bench)


def _weights(args: argparse.Namespace, console: TextIO) -> int:
    # Imported late: urllib and ssl, which fetch_weights needs, would slow the start of the other commands.
    from vortex.weights import cache
    from vortex.weights.fetch import fetch_weights

    name = args.name
    if args.deep and (args.action, name) != ("verify", "liveportrait"):
        raise InputError(
            "--deep renders a frame with liveportrait's weights: weights verify liveportrait --deep"
        )
    if args.action == "fetch":
        # the licence is shown before anything is downloaded
        print(cache.describe_weights(name), file=console)
        folder = fetch_weights(name, on_progress=progress_line(console) if console.isatty() else None)
        print(folder)
    elif args.action == "verify":
        folder = cache.verify_weights(name)
        print(f"{folder}: {len(cache.weights_files(name))} files, all as published")
        if args.deep:
            _verify_deep(folder, args.device)
    elif args.action == "list":
        missing = cache.missing_weights(name)
        print(cache.describe_weights(name))
        for file in cache.weights_files(name):
            state = "missing" if file in missing else "there"
            print(f"  {state:<8}{file.size_bytes:>13,} bytes  {file.path}")
    else:
        print(cache.weights_dir(name))
    return 0


def _verify_deep(folder: Path, device: str | None) -> None:
    """Render one frame, print what it tells, and raise an EngineError if it is not what it should be."""
    if reason := find_engine("liveportrait").why_unavailable(device):
        raise InputError(f"liveportrait cannot run here: {reason}.")
    from vortex.engines.liveportrait import deep_check, load_liveportrait_engine

    engine = load_liveportrait_engine(device)
    try:
        found = deep_check.render_check(engine)
    finally:
        engine.close()
    record, picture = deep_check.write_record(found, folder)
    print(f"one frame was rendered on {found.device} in {found.took_s:.1f} s: {picture}")
    found.check()
    print("a face is found in it")
    if found.difference is None:
        print(
            "no frame of the released weights is recorded in this version, so it is compared with none: "
            f"look at it, and please send {record} with a report of what you see"
        )
    else:
        print(f"it is the recorded one (mean difference {found.difference:.2f} of 255)")


def _doctor(args: argparse.Namespace, console: TextIO) -> int:
    specs = engine_specs()
    engines = {name: spec.why_unavailable(None) for name, spec in specs.items()}
    # An engine that lacks its usual device may run on the CPU, where it may lack something else.
    others = [name for name, reason in engines.items() if reason and "cpu" in specs[name].devices[1:]]
    on_cpu = {name: specs[name].why_unavailable("cpu") for name in others}
    motions = {spec.name: _why_not(spec) for spec in AUDIO_MOTIONS}
    extras = {name: why_not_installed(name) for name in EXTRAS}
    if args.json:
        versions = {"vortex": __version__, "python": platform.python_version()}
        found = {"engines": engines, "engines_on_cpu": on_cpu, "audio_motions": motions, "extras": extras}
        print(json.dumps({**versions, **found}))
    else:
        print(f"vortex {__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
        for name, reason in [*engines.items(), *motions.items()]:
            print(f"  {name:<13} {'can run' if reason is None else 'cannot run: ' + reason}")
            if name in on_cpu:
                print(f"  {'':<13} with --device cpu: {on_cpu[name] or 'can run, seconds for each frame'}")
        for name, reason in extras.items():
            print(f"  {name:<13} {'installed' if reason is None else reason}")
    return 0 if None in engines.values() else 1


def _why_not(spec: AudioMotionSpec) -> str | None:
    """Return why a model cannot run here, or None if it can."""
    try:
        spec.check()
    except VortexError as exc:
        return str(exc)
    return None


def _bench(args: argparse.Namespace, console: TextIO) -> int:
    script = Path(__file__).parents[2] / "benchmarks" / "bench.py"
    if not script.is_file():
        raise InputError(
            f"There is no {script}: the benchmarks are part of the repository, not of the installed package. "
            "Clone the repository and run this from there."
        )
    return subprocess.run([sys.executable, str(script), *args.names, *["--record"] * args.record]).returncode
