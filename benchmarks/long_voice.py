"""Animate an hour of speech, and see whether memory stays flat and the end is in step.

Usage: python benchmarks/long_voice.py [--minutes 60] [--size-px 256]
           [--output .tasks/baselines/long_voice.json]

The voice is the demo clip, said again and again after pauses of 0.3 to 1.2 s drawn from a fixed seed. While
``vortex animate`` works with the mesh engine at 24 frames per second, what its process holds (resident set)
is read four times a second. Growth is from the median of the second tenth of the rendering to that of the
last. Then every packet of the finished video is counted and timed, and its last 30 s are cut out, each frame
and sample at the time that the file gives it, and measured by ``vortex check``. Exit status 1 if memory grows
by more than a megabyte for each minute rendered (the index of the file takes a third of that), a frame is
missing or out of time, sound and picture end apart by more than a frame, or the lips are more than one frame
off at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from harness import append, record, rounded, vortex_command

from vortex.audio import load_audio
from vortex.check import check_video
from vortex.demo import DEMO_SPEECH, demo_portrait
from vortex.encoder import encode_video
from vortex.pipeline import SOUND_HZ
from vortex.types import Audio, Frame

FPS = Fraction(24)
SPEECH_HZ = 16_000
PAUSE_S = (0.3, 1.2)
END_S = 30
SAMPLING_S = 0.25
MAX_GROWTH_BYTES_PER_MINUTE = 1e6
TENTHS_BETWEEN = 0.8
"""From the middle of the second tenth to that of the last, in parts of the whole."""


def main() -> int:
    """Make the voice and the video, measure both, and keep a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speech, out, end = (Path(folder) / name for name in ("speech.flac", "out.mp4", "end.mp4"))
        write_voice(speech, 60 * args.minutes)
        report, resident = animate(speech, out, args.size_px)
        frames, gap_s = timing(out)
        cut_end(out, end, args.size_px)
        sync, *_ = check_video(end)
        output_bytes = out.stat().st_size
    medians = tenths(resident, report["stage_s"]["render"])
    entry = rounded(
        record(
            "long_voice",
            engine="mesh",
            params={"minutes": args.minutes, "size_px": args.size_px, "fps": int(FPS)},
            frames=frames,
            wall_s=report["wall_s"],
            stage_s=report["stage_s"],
            frames_per_s=frames / report["stage_s"]["render"],
            peak_memory_bytes=report["peak_bytes"],
            resident_bytes={"second_tenth": medians[1], "last_tenth": medians[-1]},
            resident_tenths_bytes=medians,
            growth=medians[-1] / medians[1] - 1,
            growth_bytes_per_minute=(medians[-1] - medians[1]) / (TENTHS_BETWEEN * args.minutes),
            output_bytes=output_bytes,
            end={"sound_after_picture_s": gap_s, "lag_frames": sync.offset_frames,
                 "correlation": sync.correlation, "closures": len(sync.closures_found_s),
                 "closures_missed": len(sync.closures_missed_s)},
        )
    )  # fmt: skip
    print(json.dumps(entry, indent=1))
    if args.output:
        append(args.output, entry)
    return 0 if passes(entry, round(60 * args.minutes * FPS)) else 1


def passes(entry: dict[str, Any], frames: int) -> bool:
    """Return whether nothing grew, nothing is missing, and the end is in step."""
    end = entry["end"]
    in_step = abs(end["lag_frames"]) <= 1 and abs(end["sound_after_picture_s"]) <= 1 / FPS
    flat = entry["growth_bytes_per_minute"] <= MAX_GROWTH_BYTES_PER_MINUTE
    return bool(flat and entry["frames"] == frames and in_step)


def write_voice(path: Path, duration_s: float) -> None:
    """Write the demo clip as FLAC, repeated after pauses, of exactly ``duration_s``."""
    left = round(duration_s * SPEECH_HZ)
    chance = np.random.default_rng(1)
    clip = load_audio(DEMO_SPEECH, SPEECH_HZ).samples
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SPEECH_HZ, layout="mono")
        while left:
            pause = np.zeros(round(chance.uniform(*PAUSE_S) * SPEECH_HZ), np.float32)
            samples = np.concatenate([clip, pause])[:left]
            left -= len(samples)
            pcm = np.round(samples * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            frame.sample_rate = SPEECH_HZ
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def animate(speech: Path, out: Path, size_px: int) -> tuple[dict[str, Any], list[tuple[float, int]]]:
    """Run the command; return its report, and (seconds from the start, resident bytes) as it went."""
    command = [
        *vortex_command(), "animate", str(demo_portrait()), str(speech), "-o", str(out), "--json",
        "--engine", "mesh", "--seed", "1", "--fps", str(FPS), "--size", str(size_px),
    ]  # fmt: skip
    resident: list[tuple[float, int]] = []
    peak_bytes, start_s = 0, time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            held = _status(process.pid)
            if held:
                resident.append((time.perf_counter() - start_s, held["VmRSS"]))
                peak_bytes = held["VmHWM"]
            time.sleep(SAMPLING_S)
        assert process.stdout is not None
        report = json.loads(process.stdout.read())
    return {**report, "wall_s": time.perf_counter() - start_s, "peak_bytes": peak_bytes}, resident


def _status(pid: int) -> dict[str, int]:
    """Return what the kernel says of the memory of a process, in bytes; nothing if it is about to end."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}


def tenths(resident: list[tuple[float, int]], render_s: float) -> list[float]:
    """Return the median of what was held in each tenth of the rendering, which ends with the process."""
    start_s = resident[-1][0] - render_s
    during = [held for at_s, held in resident if at_s >= start_s]
    return [float(np.median(part)) for part in np.array_split(during, 10)]


def timing(path: Path) -> tuple[int, float]:
    """Return the number of frames, each at its own time, and the seconds by which the sound ends later.

    Raises:
        ValueError: a frame is not where its number puts it.
    """
    shown: list[Fraction] = []
    ends = {"video": Fraction(0), "audio": Fraction(0)}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is None:
                continue
            ends[packet.stream.type] = max(
                ends[packet.stream.type], (packet.pts + packet.duration) * packet.time_base
            )
            if packet.stream.type == "video":
                shown.append(packet.pts * packet.time_base)
    if sorted(shown) != [index / FPS for index in range(len(shown))]:
        raise ValueError("the frames of the video are not evenly spaced from 0 on")
    return len(shown), float(ends["audio"] - ends["video"])


def cut_end(video: Path, out: Path, size_px: int) -> None:
    """Write the last 30 s of a video as one of its own: what was heard with a frame stays with it."""
    with av.open(str(video)) as container:
        total = container.streams.video[0].frames
    first = max(total - round(END_S * FPS), 0)
    audio = _sound(video, first / FPS, (total - first) / FPS)
    encode_video(out, _frames(video, first / FPS), audio, FPS, (size_px, size_px))


def _frames(video: Path, start_s: Fraction) -> Iterator[Frame]:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        container.seek(int(start_s / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.pts * frame.time_base >= start_s:
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _sound(video: Path, start_s: Fraction, duration_s: Fraction) -> Audio:
    """Return the sound from ``start_s`` on, every sample at the time that the file gives it."""
    samples = np.zeros(round(duration_s * SOUND_HZ), np.float32)
    with av.open(str(video)) as container:
        stream = container.streams.audio[0]
        container.seek(int(max(start_s - 1, Fraction(0)) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            part = frame.to_ndarray()[0]
            at = round((frame.pts * frame.time_base - start_s) * SOUND_HZ)
            part = part[max(-at, 0) :][: max(len(samples) - max(at, 0), 0)]
            samples[max(at, 0) :][: len(part)] = part
    return Audio(np.clip(samples, -1, 1), SOUND_HZ)


if __name__ == "__main__":
    sys.exit(main())
