"""Measure the mesh engine: the whole command, the counted work of a frame, or memory over many videos.

Usage: python benchmarks/mesh.py [--duration-s 45] [--iterations 5] [--output benchmarks/records/mesh.json]
       python benchmarks/mesh.py --work [--check benchmarks/records/mesh_work.json]
       python benchmarks/mesh.py --runs 100 [--threads 8]

By default, ``vortex animate`` is timed from process start to finished MP4, with its CPU time and stages,
which overlap. The speech is the demo clip, repeated to the duration; the portrait is the demo portrait. Then
the same frames, held in memory, are encoded with the same sound three times; ``ratio`` gives the command, and
its rendering with encoding, in units of that median. That unit shrinks as our encoder gets faster; the time
of FFmpeg's own settings (x264 "medium") does not, so it is given, too.

``--work`` counts, over 96 frames of the demo: Python and library calls, bytes written by resampling, peak of
the memory that rendering holds. These are equal on every machine. CPU time is given in units of a fixed piece
of work.

``--runs`` makes one second of video in this process many times, and reads the resident memory after each.
Growth is from the median of the second tenth to that of the last. Then ``--threads`` videos are made at the
same time; each one must equal the one made alone, byte for byte. Exit status 1 if one differs or memory grew
by more than 1 %.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import cv2
import numpy as np
import psutil
from compare import keep
from harness import make_parser, measure, record, summary, tenths, vortex_command

import vortex
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.engines.registry import load_engine
from vortex.lipsync.recognize import recognize_visemes
from vortex.media.audio import load_audio, write_wav
from vortex.media.video import encode_video
from vortex.motion.drive import drive
from vortex.performance import SOUND_HZ
from vortex.types import Audio, MotionTrack, VisemeTrack

SPEECH_HZ = 16_000
WORK_FRAMES = 96
RESAMPLERS = ("remap", "resize", "warpAffine")
MAX_GROWTH = 0.01


def main() -> int:
    """Measure what the options ask for; print, keep and check the record."""
    parser = make_parser(__doc__)
    parser.add_argument("--work", action="store_true", help="count the work of a frame")
    parser.add_argument("--runs", type=int, help="measure memory over so many videos")
    parser.add_argument("--threads", type=int, default=8, help="of --runs: videos made at the same time")
    parser.add_argument("--duration-s", type=float, default=45.0)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--preset", default="neutral")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.work:
        return keep(count_work(), args)
    if args.runs:
        entry = measure_memory(args.runs, args.threads)
        return keep(entry, args) or int(entry["videos_that_differ"] > 0 or entry["growth"] > MAX_GROWTH)
    return keep(measure_command(args), args)


def write_speech(path: Path, duration_s: float) -> None:
    """Write the demo clip as WAV, repeated, with its pauses, to exactly ``duration_s``."""
    clip = load_audio(DEMO_SPEECH, SPEECH_HZ).samples
    write_wav(path, Audio(np.resize(clip, round(duration_s * SPEECH_HZ)), SPEECH_HZ))


def measure_command(args: argparse.Namespace) -> dict[str, Any]:
    """Return the record of ``vortex animate`` in processes of its own, and of encoding alone."""
    reports: list[dict[str, Any]] = []
    cpu_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        speech, out = Path(folder) / "speech.wav", Path(folder) / "out.mp4"
        write_speech(speech, args.duration_s)
        command = [
            *vortex_command(), "animate", str(demo_portrait()), str(speech), "-o", str(out), "--force",
            "--json", "--engine", "mesh", "--preset", args.preset, "--seed", str(args.seed),
            "--fps", str(args.fps), "--size-px", str(args.size_px),
        ]  # fmt: skip

        def once() -> float:
            start_s, start_cpu_s = time.perf_counter(), _children_cpu_s()
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            wall_s = time.perf_counter() - start_s
            cpu_s.append(_children_cpu_s() - start_cpu_s)
            reports.append(json.loads(done.stdout))
            return wall_s

        samples_s = measure(once, iterations=args.iterations, warmup=args.warmup)
        output_bytes = out.stat().st_size
        encoding_s = _encoding_s(args, speech, out)
    reports, command_s = reports[args.warmup :], statistics.median(samples_s)
    stages = {
        name: statistics.median(report["stage_s"][name] for report in reports)
        for name in reports[0]["stage_s"]
    }
    names = ("iterations", "warmup", "duration_s", "fps", "size_px", "preset", "seed")
    return record(
        "mesh_latency",
        engine=reports[0]["engine"],
        params={name: getattr(args, name) for name in names},
        frames=reports[0]["frames"],
        latency_s=summary(samples_s),
        cpu_s=statistics.median(cpu_s[args.warmup :]),
        stage_s={
            **stages,
            "process_start_and_exit": command_s - statistics.median(report["total_s"] for report in reports),
        },
        render_ms_per_frame=1000 * stages["render"] / reports[0]["frames"],
        encoding_s=encoding_s,
        ratio={
            "command_to_encoding_alone": command_s / encoding_s["alone"],
            "render_and_encode_to_encoding_alone": stages["render"] / encoding_s["alone"],
            "command_to_ffmpeg_defaults": command_s / encoding_s["ffmpeg_defaults"],
        },
        # The largest of all children so far, in kilobytes on Linux.
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        output_bytes=output_bytes,
    )


def _children_cpu_s() -> float:
    """Return the CPU time of all finished child processes; other programs disturb it little."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _encoding_s(args: argparse.Namespace, speech: Path, out: Path) -> dict[str, float]:
    """Return the median seconds of encoding the command's frames alone: ours, and FFmpeg's defaults."""
    fps, audio, engine = Fraction(args.fps), load_audio(speech, SOUND_HZ), load_engine("mesh")
    motion = drive(recognize_visemes(audio, fps), args.preset, args.seed)
    prepared = engine.prepare(vortex.load_portrait(demo_portrait()), size_px=args.size_px)
    frames, size_px = list(engine.iter_frames(prepared, motion)), prepared.size_px
    cv2.setNumThreads(1)  # as in the command

    def encode_with_defaults() -> None:
        with av.open(str(out), "w") as container:
            video = container.add_stream("libx264", rate=fps)
            video.width, video.height = size_px
            video.pix_fmt = "yuv420p"
            video.codec_context.thread_type = "FRAME"
            sound = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
            for picture in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(video.encode(None))
            samples = av.AudioFrame.from_ndarray(audio.samples[None], format="fltp", layout="mono")
            samples.sample_rate = SOUND_HZ
            container.mux(sound.encode(samples))
            container.mux(sound.encode(None))

    def seconds_of(work: Callable[[], object]) -> float:
        start_s = time.perf_counter()
        work()
        return time.perf_counter() - start_s

    return {
        "alone": statistics.median(
            seconds_of(lambda: encode_video(out, iter(frames), audio, fps, size_px)) for _ in range(3)
        ),
        "ffmpeg_defaults": statistics.median(seconds_of(encode_with_defaults) for _ in range(3)),
    }


def count_work() -> dict[str, Any]:
    """Return the record of what 96 frames cost; CPU time is in units of :func:`reference_work`."""
    cv2.setNumThreads(1)  # threads of OpenCV would hide work from the clock of this thread
    engine = load_engine("mesh")
    prepared, motion = engine.prepare(vortex.load_portrait(demo_portrait())), _demo_motion()

    def render() -> None:
        for _ in engine.iter_frames(prepared, motion):
            pass

    render()
    profile = cProfile.Profile()
    profile.runcall(render)
    with _resampled_bytes() as resampled:
        render()
    tracemalloc.start()
    render()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return record(
        "mesh_work",
        engine="mesh",
        params={"frames": WORK_FRAMES, "size_px": 512, "preset": "neutral", "seed": 1},
        work={
            "calls_per_frame": pstats.Stats(profile).total_calls / WORK_FRAMES,  # type: ignore[attr-defined]
            "resampled_bytes_per_frame": sum(resampled) / WORK_FRAMES,
            "peak_bytes": peak_bytes,
        },
        ratio={"frame_to_kernel": least_cpu_s(render) / WORK_FRAMES / least_cpu_s(reference_work)},
    )


def _demo_motion() -> MotionTrack:
    demo = recognize_visemes(load_audio(DEMO_SPEECH), Fraction(24))
    row = np.arange(WORK_FRAMES) % len(demo.weights)
    return drive(VisemeTrack(demo.weights[row], demo.loudness[row], demo.fps), "neutral", 1)


@contextmanager
def _resampled_bytes() -> Iterator[list[int]]:
    """Yield a list that collects the size of everything that OpenCV resamples in the block."""
    sizes: list[int] = []

    def counting(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            sizes.append(result.nbytes)
            return result

        return call

    with ExitStack() as stack:
        for name in RESAMPLERS:
            stack.enter_context(patch.object(cv2, name, counting(getattr(cv2, name))))
        yield sizes


def least_cpu_s(work: Callable[[], object]) -> float:
    """Return the least CPU time of this thread in five rounds; other processes disturb it little."""
    samples_s = []
    for _ in range(5):
        start_s = time.thread_time()
        work()
        samples_s.append(time.thread_time() - start_s)
    return min(samples_s)


def reference_work() -> None:
    """Resample a 512 px picture and sum products, 20 times: the operations that a mesh frame consists of.

    Never change it: every recorded ratio is in units of this.
    """
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    where = np.stack(np.meshgrid(np.arange(512), np.arange(512)), axis=2).astype(np.float32) + 0.3
    rows = rng.random((24, 30)).astype(np.float32)
    fields = rng.random((30, 16_000)).astype(np.float32)
    for _ in range(20):
        cv2.remap(picture, where, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        np.einsum("tk,kc->tc", rows, fields)


def measure_memory(runs: int, threads: int) -> dict[str, Any]:
    """Return the record of many videos made one after the other, then some at the same time."""
    process, resident = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        write_speech(speech, 1.0)

        def digest(seed: int) -> str:
            out = speech.with_name(f"{seed}.mp4")
            vortex.animate(
                demo_portrait(),
                speech,
                out,
                force=True,
                engine="mesh",
                size_px=256,
                seed=seed,
                preset="excited",
            )
            return hashlib.sha256(out.read_bytes()).hexdigest()

        for seed in range(runs):
            digest(seed)
            resident.append(process.memory_info().rss)
        alone = [digest(seed) for seed in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            together = list(pool.map(digest, range(threads)))
    medians = tenths(resident)
    return record(
        "soak",
        engine="mesh",
        params={"runs": runs, "threads": threads, "vary": False, "duration_s": 1},
        resident_bytes={"second_tenth": medians[1], "last_tenth": medians[-1], "most": max(resident)},
        resident_tenths_bytes=medians,
        growth=medians[-1] / medians[1] - 1,
        videos_that_differ=sum(one != other for one, other in zip(alone, together, strict=True)),
    )


if __name__ == "__main__":
    sys.exit(main())
