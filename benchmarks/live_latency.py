"""How far a live face is behind the voice, over a websocket on this machine.

Usage: python benchmarks/live_latency.py [--seconds 60] [--faces 1] [--output .tasks/baselines/live.json]

The demo speech is sent over and over, 20 ms every 20 ms, as a microphone would; each frame is stamped when
its last byte has come. The latency is from the moment when the sound that a frame shows was heard, which is
the middle of its 1/24 s, to the arrival of its picture. ``first_frame_s`` is that of the first one;
``drift_s`` is how much further behind the last tenth of the frames is than the second; ``interrupted_s`` the
time from an interruption to the last frame with sound in it, while ten seconds of speech were waiting;
``cpu_share`` the CPU time of the server for each second of a face.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from harness import append, record, rounded, summary
from served import serve
from soak import tenths
from websockets.sync.client import ClientConnection, connect

from vortex.audio import load_audio
from vortex.demo import DEMO_SPEECH

RATE_HZ, FPS = 24_000, 24
CHUNK = RATE_HZ // 50
MAX_BEHIND_S = 0.3


def main() -> int:
    """Measure, print, keep a record if asked to; 1 if a face is more than 0.3 s behind at the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--faces", type=int, default=1, help="live faces at the same time")
    parser.add_argument("--size", type=int, default=512, help="pixels of a side")
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    pcm = np.round(load_audio(DEMO_SPEECH, RATE_HZ).samples * 32767).astype("<i2")
    with serve("--max-live", str(args.faces), "--max-live-s", str(args.seconds + 60)) as server:
        portrait_id = server.add_portrait()
        address = (
            f"{server.address.replace('http', 'ws')}/v1/live?portrait_id={portrait_id}&size_px={args.size}"
        )
        follow(address, pcm, 3)
        cpu_s, before = server.cpu_s(), server.resident_bytes()
        with ThreadPoolExecutor(args.faces) as pool:
            arrivals = list(pool.map(lambda _: follow(address, pcm, args.seconds), range(args.faces)))
        cpu_s = server.cpu_s() - cpu_s
        grown = server.resident_bytes() - before
        interrupted_s = interrupt(address, pcm)
    behind = [np.array([at_s - (index + 0.5) / FPS for index, at_s in enumerate(face)]) for face in arrivals]
    medians = [tenths(face.tolist()) for face in behind]
    every = np.concatenate(behind)
    entry = rounded(
        record(
            "live_latency",
            engine="mesh",
            params={"seconds": args.seconds, "faces": args.faces, "size_px": args.size, "fps": FPS},
            latency_s={name: value for name, value in summary(every.tolist()).items() if name != "samples"},
            figures={
                "first_frame_s": max(float(face[0]) for face in behind),
                "drift_s": max(face[-1] - face[1] for face in medians),
                "interrupted_s": interrupted_s,
                "cpu_share": cpu_s / (args.seconds * args.faces),
                "share_within_0.3_s": float((every <= MAX_BEHIND_S).mean()),
                "grown_bytes": grown,
            },
            frames=len(every),
        )
    )
    print(json.dumps({"latency_s": entry["latency_s"], **entry["figures"], "frames": len(every)}, indent=1))
    if args.output:
        append(args.output, entry)
    return 0 if entry["latency_s"]["p50"] <= MAX_BEHIND_S else 1


def follow(address: str, pcm: np.ndarray, seconds: float) -> list[float]:
    """Speak in real time; return when each frame came, in seconds after the first sound."""
    arrivals: list[float] = []
    with connect(address + "&pace=sound", max_size=None, compression=None) as socket:
        socket.recv()
        start_s = time.perf_counter()
        speaker = threading.Thread(target=speak, args=(socket, pcm, seconds, start_s))
        speaker.start()
        while isinstance(message := socket.recv(), bytes):
            (index,) = struct.unpack_from("<I", message)
            assert index == len(arrivals)
            arrivals.append(time.perf_counter() - start_s)
        speaker.join()
    assert json.loads(message) == {"type": "end", "frames": len(arrivals)}
    # what comes after the sound has ended waits for nothing
    return arrivals[: int((seconds - 1) * FPS)]


def speak(socket: ClientConnection, pcm: np.ndarray, seconds: float, start_s: float) -> None:
    """Send the speech over and over, each chunk when a microphone would have heard it."""
    for number in range(int(seconds * RATE_HZ / CHUNK)):
        at = number * CHUNK % (len(pcm) - CHUNK)
        time.sleep(max(start_s + (number + 1) * CHUNK / RATE_HZ - time.perf_counter(), 0))
        socket.send(pcm[at : at + CHUNK].tobytes())
    socket.send(json.dumps({"type": "end"}))


def interrupt(address: str, pcm: np.ndarray) -> float:
    """Return the seconds for which a face goes on speaking after it has been interrupted."""
    with connect(address + "&pace=clock", max_size=None, compression=None) as socket:
        socket.recv()
        socket.send(np.tile(pcm, 4)[: 10 * RATE_HZ].tobytes())
        for _ in range(3 * FPS):
            socket.recv()
        socket.send(json.dumps({"type": "interrupt"}))
        asked_s = last_s = time.perf_counter()
        for _ in range(2 * FPS):
            message = socket.recv()
            assert isinstance(message, bytes)
            (length,) = struct.unpack_from("<I", message, 4)
            if any(message[8 : 8 + length]):
                last_s = time.perf_counter()
    return last_s - asked_s


if __name__ == "__main__":
    sys.exit(main())
