"""Time the whole command, process start to finished MP4, with the mesh engine.

Usage: python benchmarks/mesh_latency.py [--duration-s 45] [--iterations 5] [--warmup 1]
           [--output .tasks/baselines/mesh.json]

The speech is the demo clip, repeated to the duration; the portrait is the demo portrait. Prints the
distribution, the CPU time and the stages, which overlap: speech is heard while the portrait is prepared. Then
the same frames, held in memory, are encoded with the same sound, three times: what the whole command takes in
units of that, and what rendering and encoding together take. That unit shrinks as the encoder gets faster;
one that does not is the time FFmpeg takes for these frames with its own settings (x264 "medium"), also given.
``--output`` appends a record.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from harness import append, measure, record, rounded, summary, vortex_command

from vortex.audio import load_audio
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.encoder import encode_video
from vortex.engines.mesh import MeshEngine
from vortex.lipsync.recognize import recognize_visemes
from vortex.motion.drive import drive
from vortex.pipeline import SOUND_HZ
from vortex.portrait import load_portrait

SPEECH_HZ = 16_000


def main() -> int:
    """Measure, print, and keep a record if asked to."""
    args = _arguments()
    reports: list[dict[str, Any]] = []
    cpu_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        speech, out = Path(folder) / "speech.wav", Path(folder) / "out.mp4"
        write_speech(speech, args.duration_s)
        command = [
            *vortex_command(), "animate", str(demo_portrait()), str(speech), "-o", str(out), "--json",
            "--engine", "mesh", "--preset", args.preset, "--seed", str(args.seed), "--fps", str(args.fps),
            "--size", str(args.size_px),
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
        encoding = Encoding(args, speech, out)
        encoding_s = {
            "alone": statistics.median(encoding.ours_s() for _ in range(3)),
            "ffmpeg_defaults": statistics.median(encoding.default_s() for _ in range(3)),
        }
    entry = rounded(
        _record(args, samples_s, reports[args.warmup :], cpu_s[args.warmup :], output_bytes, encoding_s)
    )
    _print(entry)
    if args.output:
        append(args.output, entry)
    return 0 if {report["engine"] for report in reports} == {"mesh"} else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--duration-s", type=float, default=45.0)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--preset", default="neutral")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="file of records to append to")
    return parser.parse_args()


def write_speech(path: Path, duration_s: float) -> None:
    """Write the demo clip as WAV, repeated, with its pauses, to exactly ``duration_s``."""
    clip = load_audio(DEMO_SPEECH, SPEECH_HZ).samples
    samples = np.resize(clip, round(duration_s * SPEECH_HZ))
    pcm = np.round(samples * 32767).astype(np.int16)[None]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SPEECH_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        frame.sample_rate = SPEECH_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Encoding:
    """The frames of the command, all made before, and its sound, to be encoded and nothing else."""

    def __init__(self, args: argparse.Namespace, speech: Path, out: Path) -> None:
        self.fps, self.out = Fraction(args.fps), out
        self.audio = load_audio(speech, SOUND_HZ)
        engine = MeshEngine()
        motion = drive(recognize_visemes(self.audio, self.fps), args.preset, args.seed)
        prepared = engine.prepare(load_portrait(demo_portrait()), size_px=args.size_px)
        self.frames, self.size_px = list(engine.iter_frames(prepared, motion)), prepared.size_px
        # as in the command
        cv2.setNumThreads(1)

    def ours_s(self) -> float:
        """Return the seconds that our encoder takes."""
        start_s = time.perf_counter()
        encode_video(self.out, iter(self.frames), self.audio, self.fps, self.size_px)
        return time.perf_counter() - start_s

    def default_s(self) -> float:
        """Return the seconds that FFmpeg takes, asked for H.264 and AAC and nothing more."""
        start_s = time.perf_counter()
        with av.open(str(self.out), "w") as container:
            video = container.add_stream("libx264", rate=self.fps)
            video.width, video.height = self.size_px
            video.pix_fmt = "yuv420p"
            video.codec_context.thread_type = "FRAME"
            sound = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
            for picture in self.frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(video.encode(None))
            frame = av.AudioFrame.from_ndarray(self.audio.samples[None], format="fltp", layout="mono")
            frame.sample_rate = SOUND_HZ
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        return time.perf_counter() - start_s


def _children_cpu_s() -> float:
    """Return the CPU time of all commands so far, which other programs on the machine disturb little."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _record(
    args: argparse.Namespace,
    samples_s: list[float],
    reports: list[dict[str, Any]],
    cpu_s: list[float],
    output_bytes: int,
    encoding_s: dict[str, float],
) -> dict[str, Any]:
    stages = {
        name: statistics.median(report["stage_s"][name] for report in reports)
        for name in reports[0]["stage_s"]
    }
    inside_s = statistics.median(report["total_s"] for report in reports)
    stages["process_start_and_exit"] = statistics.median(samples_s) - inside_s
    frames = reports[0]["frames"]
    return record(
        "mesh_latency",
        engine="mesh",
        params={
            "iterations": args.iterations,
            "warmup": args.warmup,
            "duration_s": args.duration_s,
            "fps": args.fps,
            "size_px": args.size_px,
            "preset": args.preset,
            "seed": args.seed,
        },
        frames=frames,
        latency_s=summary(samples_s),
        cpu_s=statistics.median(cpu_s),
        stage_s=stages,
        render_ms_per_frame=1000 * stages["render"] / frames,
        encoding_s=encoding_s,
        ratio={
            "command_to_encoding_alone": statistics.median(samples_s) / encoding_s["alone"],
            "render_and_encode_to_encoding_alone": stages["render"] / encoding_s["alone"],
            "command_to_ffmpeg_defaults": statistics.median(samples_s) / encoding_s["ffmpeg_defaults"],
        },
        # the largest of all children so far, in kilobytes on Linux
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        output_bytes=output_bytes,
    )


def _print(entry: dict[str, Any]) -> None:
    latency = entry["latency_s"]
    params = entry["params"]
    print(
        f"{params['duration_s']:g} s of speech, {entry['frames']} frames, {params['size_px']} px, "
        f"{entry['env']['cores']} cores of {entry['env']['cpu']}"
    )
    print(
        f"whole command: p50 {latency['p50']:.2f} s, min {latency['min']:.2f}, max {latency['max']:.2f} "
        f"({params['iterations']} runs after {params['warmup']}); CPU time {entry['cpu_s']:.2f} s"
    )
    for name, seconds in entry["stage_s"].items():
        print(f"  {name:<24}{seconds:8.3f} s")
    print(
        f"render and encode {entry['render_ms_per_frame']:.2f} ms a frame, "
        f"peak memory {entry['peak_memory_bytes'] / 1e6:.0f} MB, file {entry['output_bytes'] / 1e6:.1f} MB"
    )
    ratio, encoding_s = entry["ratio"], entry["encoding_s"]
    print(
        f"encoding alone {encoding_s['alone']:.2f} s: the command takes "
        f"{ratio['command_to_encoding_alone']:.2f} times as long, rendering and encoding "
        f"{ratio['render_and_encode_to_encoding_alone']:.2f} times"
    )
    print(
        f"encoding with FFmpeg's own settings {encoding_s['ffmpeg_defaults']:.2f} s: the command takes "
        f"{ratio['command_to_ffmpeg_defaults']:.2f} times as long"
    )


if __name__ == "__main__":
    sys.exit(main())
