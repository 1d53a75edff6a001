"""``vortex generate``: a prompt and a text become a verified video."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from vortex.cli.animate import add_render_options, chosen_engine, print_report, progress_hook
from vortex.cli.speak import add_text_options, given_text
from vortex.errors import InputError


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    generate = commands.add_parser(
        "generate", parents=[common], help="make a verified video from a prompt and a text"
    )
    add = generate.add_argument
    add("--prompt", metavar="TEXT", help="the portrait to draw, such as: an old sailor, oil painting")
    add("--image", metavar="FILE", help="use this picture instead of drawing one")
    add_text_options(generate, option="--text")
    add("-o", "--output", metavar="OUT.mp4", required=True)
    add("--report", metavar="JSON", help="where the report goes (default: beside the video)")
    add("--timeline", metavar="PNG", help="draw when each stage ran")
    add("--no-clip", action="store_true", help="do not compare the picture with the prompt")
    add("--no-check", action="store_true", help="do not measure the lip-sync")
    add("--min-clip-score", type=float, metavar="X", help="least CLIP score that passes (default 0.2)")
    add("--min-clip-likeness", type=float, metavar="X", help="below this a keyframe is an outlier (0.75)")
    add("--deadline", type=float, metavar="S", help="seconds for everything (default: no limit)")
    add("--speech-timeout", type=float, default=600.0, metavar="S", help="seconds for the speech (600)")
    add("--image-timeout", type=float, default=900.0, metavar="S", help="seconds for the picture (900)")
    add(
        "--memory",
        type=float,
        metavar="GB",
        help="memory for models (default: most of what is free)",
    )
    add("--image-model", metavar="FOLDER", help="another Flux pipeline, in the layout of diffusers")
    add("--image-device", default="cuda", metavar="NAME", help="cuda (default) or cpu")
    add(
        "--clip-models",
        metavar="B32,L14",
        help="other CLIP models: two folders, as transformers saves them",
    )
    add_render_options(generate)
    generate.set_defaults(run=_generate)


def _generate(args: argparse.Namespace, console: TextIO) -> int:
    from vortex.extras.residency import ModelRegistry
    from vortex.production import Limits, Order, produce, write_report
    from vortex.timeline import check_picture_path, plot_timeline

    limits = Limits(
        deadline_s=_positive("--deadline", args.deadline),
        speech_s=_positive("--speech-timeout", args.speech_timeout) or 0.0,
        image_s=_positive("--image-timeout", args.image_timeout) or 0.0,
    )
    order = Order(
        given_text(args),
        prompt=args.prompt,
        image=Path(args.image) if args.image else None,
        voice=args.voice,
        speed=args.speed,
        speech_engine=args.speech_engine,
        preset=args.preset,
        fps=args.fps,
        size_px=args.size,
        duration_s=args.duration,
        seed=args.seed,
        paste_back=args.paste_back,
        device=args.device,
        quality=args.quality,
        mark=not args.no_mark,
        verify_prompt=not args.no_clip,
        verify_lips=not args.no_check,
        clip_limits=_clip_limits(args),
        engine=chosen_engine(args, console),
    )
    report_path = Path(args.report) if args.report else Path(args.output).with_suffix(".json")
    if not report_path.parent.is_dir():
        raise InputError(f"The folder '{report_path.parent}' does not exist. Create it, or write elsewhere.")
    if args.timeline:
        check_picture_path(Path(args.timeline))
    quiet = args.json or not console.isatty()
    registry = ModelRegistry(
        {device: round(args.memory * 2**30) for device in ("cpu", "cuda")} if args.memory else None,
        tell=None if quiet else lambda line: print(f"\r\x1b[2Kvortex: {line}", file=console),
    )
    started_s = time.perf_counter()
    production = produce(
        order,
        args.output,
        limits=limits,
        makers=_makers(args),
        registry=registry,
        hook=progress_hook(args, console),
    )
    write_report(report_path, production)
    if args.timeline:
        plot_timeline(Path(args.timeline), production.spans_s, title=Path(args.output).name)
    if args.json:
        print(json.dumps(production.as_json()))
    else:
        print_report(args, console, production.video, time.perf_counter() - started_s)
        _print_verification(production, report_path, console)
    return 1 if production.complaints else 0


def _positive(option: str, seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        raise InputError(f"{option} is {seconds:g}; give a number of seconds above 0.")
    return seconds


def _clip_limits(args: argparse.Namespace) -> Any:
    from vortex.extras.clip import ClipLimits

    default = ClipLimits()
    return ClipLimits(
        default.min_score if args.min_clip_score is None else args.min_clip_score,
        default.min_likeness if args.min_clip_likeness is None else args.min_clip_likeness,
    )


def _makers(args: argparse.Namespace) -> Any:
    """Return what loads the models, from the folders that were given or from the fetched weights."""
    from vortex.extras.clip import CLIP_WEIGHTS, load_clip
    from vortex.extras.image import check_device, load_flux
    from vortex.extras.residency import MODEL_BYTES
    from vortex.production import Makers

    if args.image is None and args.prompt is not None:
        check_device(args.image_device)
    folders = None
    if args.clip_models:
        paths = [Path(folder) for folder in args.clip_models.split(",")]
        if len(paths) != len(CLIP_WEIGHTS):
            raise InputError(f"--clip-models is {args.clip_models!r}; give two folders with a comma between.")
        folders = dict(zip(CLIP_WEIGHTS, paths, strict=True))
    image_model = Path(args.image_model) if args.image_model else None
    # weights take about as much memory as their files, and as much again to compute in float32
    files = sorted(image_model.rglob("*")) if image_model else []
    need = 2 * sum(file.stat().st_size for file in files) if files else MODEL_BYTES["flux-schnell"]
    images: Callable[[], Any] = lambda: load_flux(image_model, device=args.image_device)  # noqa: E731
    return Makers(
        images=images, clip=lambda: load_clip(folders), image_device=args.image_device, image_bytes=need
    )


def _print_verification(production: Any, report_path: Path, console: TextIO) -> None:
    if production.sync:
        sync = production.sync
        found, missed = len(sync.closures_found_s), len(sync.closures_missed_s)
        print(
            f"lip-sync: offset {sync.offset_frames:+.2f} frames, correlation {sync.correlation:.2f}, "
            f"{found} of {found + missed} closures",
            file=console,
        )
    if production.clip:
        print(f"CLIP: {production.clip.score:.3f} for the prompt", file=console)
    for complaint in production.complaints:
        print(f"vortex: {complaint}", file=console)
    print(f"report: {report_path}", file=console)
