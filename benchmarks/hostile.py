"""Serve honest clients while hostile ones attack the same server, and watch memory and disk.

Usage: python benchmarks/hostile.py [--seconds 600] [--attackers 6] [--memory-mb 1500]

Honest clients: one has videos made, one after another (see load.py), one speaks to a live face, and one asks
``/healthz`` ten times a second. Attackers send, at random and several at once: sounds of many channels and at
absurd rates, pictures of few bytes and many pixels, files of other formats, JSON that is deep or long,
transcripts and texts that take long, half headers on kept connections, endless headers, unread answers,
WebRTC offers, long websocket messages and invented methods. All is sent to 127.0.0.1.

Memory is that of the server and its processes together. Exit status 1 if an honest client is refused or gets
a damaged video, an answer has status 500, the server ends, memory exceeds that of an idle server by more than
the budget and ``ALLOWANCE_MB``, or something stays on the disk.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import wave
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from compare import keep
from harness import make_parser, record, summary, vortex_command
from load import FPS, RATE_HZ, Server, frame_arrivals_s, one_job
from mesh import write_speech
from websockets.sync.client import connect

from vortex.demo import DEMO_SPEECH
from vortex.media.audio import load_audio

ALLOWANCE_MB = 1500
"""What rendering, live faces, the speech model and the processes themselves may take beside the budget."""
TIMEOUT_S = 20.0


def main() -> int:
    """Attack, print and keep the record."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--attackers", type=int, default=6)
    parser.add_argument("--memory-mb", type=float, default=1500.0, help="the server's --max-memory-mb")
    args = parser.parse_args()
    entry, complaints = measure(args)
    for complaint in complaints:
        print(f"hostile: {complaint}", file=sys.stderr)
    return keep(entry, args) or int(bool(complaints))


class Siege:
    """What happens while honest and hostile clients use one server."""

    def __init__(self, server: Server, ends_s: float) -> None:
        self.server, self.ends_s = server, ends_s
        self.host, self.port = "127.0.0.1", urlsplit(server.address).port or 80
        self.statuses: Counter[int] = Counter()
        self.attacks: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.job_s: list[float] = []
        self.health_s: list[float] = []
        self.live_s: list[float] = []
        self.live_dropped = 0
        self.most_bytes = 0

    @property
    def on(self) -> bool:
        """Whether it goes on."""
        return time.monotonic() < self.ends_s

    def complain(self, what: str) -> None:
        """Note what must not happen."""
        if len(self.complaints) < 50:
            self.complaints.append(what)

    def make_videos(self, portrait_id: str, speech: str) -> None:
        """Have videos made, one after another."""
        number = 0
        while self.on:
            number += 1
            try:
                self.job_s.append(one_job(self.server, portrait_id, speech, number))
            except Exception as exc:  # whatever it is, the client was not served
                detail = exc.read()[:200] if hasattr(exc, "read") else ""
                self.complain(f"a video was not made: {exc!r} {detail!r}")
                time.sleep(1)

    def speak(self, portrait_id: str, pcm: np.ndarray) -> None:
        """Speak to a live face, half a minute at a time."""
        query = f"portrait_id={portrait_id}&size_px=256"
        address = f"ws://{self.host}:{self.port}/v1/live?{query}"
        while self.on:
            try:
                frames = frame_arrivals_s(address, pcm, 30)
            except Exception as exc:
                self.complain(f"a live face ended: {exc!r}")
                time.sleep(1)
                continue
            self.live_s += [at_s - (index + 0.5) / FPS for index, at_s in frames]
            self.live_dropped += max(index for index, _ in frames) + 1 - len(frames)

    def ask_health(self) -> None:
        """Ask whether the server runs, ten times a second."""
        while self.on:
            started_s = time.perf_counter()
            try:
                self.server.request("/healthz")
                self.health_s.append(time.perf_counter() - started_s)
            except Exception as exc:
                self.complain(f"/healthz: {exc!r}")
            time.sleep(0.1)

    def watch_memory(self) -> None:
        """Note the most memory of the server and its processes."""
        while self.on:
            self.most_bytes = max(self.most_bytes, resident_bytes(self.server))
            time.sleep(0.2)

    def attack(self, seed: int, portrait_id: str, weapons: dict[str, bytes]) -> None:
        """Attack at random."""
        chance = random.Random(seed)
        kinds: dict[str, Callable[[], None]] = {
            **{name: lambda content=content, name=name: self.upload(name, content, chance)
               for name, content in weapons.items()},
            "half headers": self.hold_headers,
            "endless headers": self.send_endless_headers,
            "unread answer": self.read_nothing,
            "methods": lambda: self.send_raw(b"M%d / HTTP/1.1\r\nHost: x\r\n\r\n" % chance.randrange(10**9)),
            "host": lambda: self.send_raw(b"GET / HTTP/1.1\r\nHost: [\r\n\r\n"),
            "deep JSON": lambda: self.post_json(b"[" * 2_000_000),
            "long JSON": lambda: self.post_json(b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"),
            "long text": lambda: self.post_json(
                json.dumps({"portrait_id": portrait_id, "text": "9" * 5000, "size_px": 128}).encode()),
            "offer": lambda: self.post_json(
                json.dumps({"portrait_id": portrait_id, "sdp": "m=video 9 x 1\r\n" * 5000}).encode(),
                "/v1/live/offer"),
            "long message": lambda: self.shout(portrait_id),
        }  # fmt: skip
        while self.on:
            name = chance.choice(list(kinds))
            self.attacks[name] += 1
            # The server may close the connection, and is expected to.
            with suppress(Exception):
                kinds[name]()

    def upload(self, name: str, content: bytes, chance: random.Random) -> None:
        """Send a file as a portrait or a speech."""
        field = "portrait" if name.startswith("picture") else "speech"
        path = "/v1/portraits" if field == "portrait" else "/v1/videos"
        fields = {} if field == "portrait" else {"portrait_id": self.portrait_id, "size_px": "128"}
        if name == "sound with a long transcript":
            fields["transcript"] = "the quick brown fox " * 4500
        edge = b"----hostile"
        parts = [f'name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
        parts.append(f'name="{field}"; filename="f"\r\n\r\n'.encode() + content)
        start = b"--" + edge + b"\r\nContent-Disposition: form-data; "
        body = b"".join(start + part + b"\r\n" for part in parts) + b"--" + edge + b"--\r\n"
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n"
        kind = f"Content-Type: multipart/form-data; boundary={edge.decode()}\r\n\r\n"
        self.send_raw((head + kind).encode() + body, wait=chance.random() < 0.7)

    portrait_id = ""

    def post_json(self, body: bytes, path: str = "/v1/videos") -> None:
        """Send a body as JSON."""
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n"
        self.send_raw((head + "Content-Type: application/json\r\n\r\n").encode() + body)

    def send_raw(self, data: bytes, wait: bool = True) -> None:
        """Send bytes; note the status of the answer, and delete what they made."""
        with socket.create_connection((self.host, self.port), TIMEOUT_S) as connection:
            connection.sendall(data)
            if not wait:
                return
            answer = connection.recv(65_536)
        match = re.match(rb"HTTP/1.1 (\d+)", answer)
        status = int(match[1]) if match else 0
        self.statuses[status] += 1
        if status == 500:
            self.complain(f"status 500 for {data[:200]!r}: {answer[-300:]!r}")
        if made := re.search(rb"location: (\S+)", answer):
            with suppress(Exception):
                time.sleep(random.random() * 3)
                self.server.request(made[1].decode(), "DELETE")

    def hold_headers(self) -> None:
        """Keep connections with half a header, after an answered request."""
        held = []
        for _ in range(8):
            connection = socket.create_connection((self.host, self.port), TIMEOUT_S)
            held.append(connection)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            connection.recv(4096)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127")
        time.sleep(3)
        for connection in held:
            connection.close()

    def send_endless_headers(self) -> None:
        """Send headers without an end."""
        with socket.create_connection((self.host, self.port), TIMEOUT_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            for number in range(100_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"a" * 200))

    def read_nothing(self) -> None:
        """Ask for many answers on one connection and read none."""
        with socket.create_connection((self.host, self.port), TIMEOUT_S) as connection:
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 200)
            time.sleep(2)

    def shout(self, portrait_id: str) -> None:
        """Send the longest message that a websocket takes, and leave."""
        query = f"portrait_id={portrait_id}&sample_rate_hz=8000&fps=120&pace=sound&size_px=128"
        with connect(f"ws://{self.host}:{self.port}/v1/live?{query}", open_timeout=TIMEOUT_S) as live:
            live.recv(TIMEOUT_S)
            live.send(bytes(1_000_000))
            time.sleep(1)


def resident_bytes(server: Server) -> int:
    """Return the memory of the server and its processes."""
    total = 0
    for process in [server.process, *server.process.children(recursive=True)]:
        with suppress(psutil.Error):
            total += int(process.memory_info().rss)
    return total


def weapons() -> dict[str, bytes]:
    """Return files that hurt, or hurt once."""
    speech = np.tile(load_audio(DEMO_SPEECH, 16_000).samples, 20)
    return {
        "picture of 40 megapixels, 16 bits": png(8000, 5000),
        "picture of 4 gigapixels": png(65_500, 65_500, rows=1),
        "picture that is none": b"\xff\xd8\xff" + bytes(5000),
        "picture that is PostScript": b"%!PS\n%% WEBP\n%!PS-Adobe-3.0 EPSF-3.0\n{} loop\n",
        "sound of 8 channels": wav(speech[:16_000], 16_000, 8),
        "sound of 64 channels": wav(speech[:16_000], 16_000, 64),
        "sound at a megahertz": wav(np.zeros(4_000_000), 1_048_575, 1),
        "sound with a long transcript": wav(speech[: 16_000 * 30], 16_000, 1),
        "sound that is none": b"RIFF" + bytes(4) + b"WAVE" + bytes(5000),
        "sound of two minutes": wav(speech[: 16_000 * 60], 16_000, 1),
    }


def png(width: int, height: int, rows: int | None = None) -> bytes:
    """Return a grey picture with 16 bits a pixel, all black; with ``rows``, cut off after so many."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + 2 * width)) for _ in range(rows or height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def wav(samples: np.ndarray, rate_hz: int, channels: int) -> bytes:
    """Return samples as a WAV file, the same in each channel."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, 2, rate_hz, 0, "NONE", "not compressed"))
        file.writeframes(np.repeat((samples * 32767).astype("<i2"), channels).tobytes())
    return buffer.getvalue()


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Return the record, and what must not have happened."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        options = {
            "--max-running": 1, "--max-live": 3, "--idle-timeout-s": 5, "--max-memory-mb": args.memory_mb,
            "--max-duration-s": 60, "--max-live-s": 600, "--max-queued": 1000,
        }  # fmt: skip
        flags = [str(part) for pair in options.items() for part in pair]
        command = [*vortex_command(), "serve", "--port", "0", "--data", str(data), *flags]
        with open(Path(folder) / "log", "w+") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                siege, idle_bytes = lay_siege(args, Path(folder), process)
                if process.poll() is not None:
                    siege.complain(f"the server ended with status {process.returncode}")
                left = wait_until_clean(siege, data)
            finally:
                process.terminate()
                process.wait(60)
            printed = (Path(folder) / "log").read_text()
    if "Traceback" in printed:
        siege.complain("the server printed a traceback: " + printed[printed.index("Traceback") :][:3000])
    if left:
        siege.complain(f"left on the disk: {left[:10]}")
    if siege.most_bytes > idle_bytes + (args.memory_mb + ALLOWANCE_MB) * 1e6:
        siege.complain(f"took {siege.most_bytes / 1e6:.0f} MB, idle {idle_bytes / 1e6:.0f} MB")
    return siege_record(args, siege, idle_bytes), siege.complaints


def lay_siege(args: argparse.Namespace, folder: Path, process: subprocess.Popen[bytes]) -> tuple[Siege, int]:
    """Let all clients use the server; return what happened and the memory of the idle server."""
    log = folder / "log"
    while not (match := re.search(r"http://\S+", log.read_text())):
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.1)
    server = Server(match[0], process.pid)
    portrait_id = server.add_portrait()
    write_speech(folder / "speech.wav", 1.0)
    speech = b64encode((folder / "speech.wav").read_bytes()).decode()
    one_job(server, portrait_id, speech, 0)
    pcm = np.round(load_audio(DEMO_SPEECH, RATE_HZ).samples * 32767).astype("<i2")
    idle_bytes, files = resident_bytes(server), weapons()
    siege = Siege(server, time.monotonic() + args.seconds)
    siege.portrait_id = portrait_id
    with ThreadPoolExecutor(args.attackers + 4) as pool:
        running = [
            pool.submit(siege.make_videos, portrait_id, speech),
            pool.submit(siege.speak, portrait_id, pcm),
            pool.submit(siege.ask_health),
            pool.submit(siege.watch_memory),
            *(pool.submit(siege.attack, seed, portrait_id, files) for seed in range(args.attackers)),
        ]
        for one in running:
            one.result()
    return siege, idle_bytes


def wait_until_clean(siege: Siege, data: Path) -> list[str]:
    """Delete all jobs and portraits; return the files that stay."""
    for kind in ("videos", "portraits"):
        while listed := json.loads(siege.server.request(f"/v1/{kind}"))[kind]:
            for entry in listed:
                with suppress(Exception):
                    siege.server.request(f"/v1/{kind}/{entry['id']}", "DELETE")
    time.sleep(5)
    folders = (data / name for name in ("incoming", "jobs", "portraits"))
    return [str(path) for folder in folders for path in folder.rglob("*")]


def siege_record(args: argparse.Namespace, siege: Siege, idle_bytes: int) -> dict[str, Any]:
    """Return the record of what happened."""

    def brief(samples: list[float]) -> dict[str, Any]:
        return {name: value for name, value in summary(samples).items() if name != "samples"}

    return record(
        "hostile_load",
        engine="mesh",
        params={"seconds": args.seconds, "attackers": args.attackers, "memory_mb": args.memory_mb},
        latency_s=brief(siege.job_s),
        health_s=brief(siege.health_s),
        live_s=brief(siege.live_s),
        live_frames={"shown": len(siege.live_s), "dropped": siege.live_dropped},
        memory_bytes={"idle": idle_bytes, "most": siege.most_bytes},
        attacks=dict(sorted(siege.attacks.items())),
        statuses={str(status): number for status, number in sorted(siege.statuses.items())},
        complaints=len(siege.complaints),
    )


if __name__ == "__main__":
    sys.exit(main())
