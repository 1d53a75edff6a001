"""A server of its own for a benchmark, and what its process takes."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from harness import vortex_command

from vortex.demo import demo_portrait


@dataclass(frozen=True)
class Served:
    """A running ``vortex serve`` on a free port of loopback."""

    address: str
    process: psutil.Process

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Send JSON and return the answer."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))

    def get(self, path: str) -> bytes:
        """Return what lies at a path; a stream of events is read to its end."""
        with urllib.request.urlopen(self.address + path, timeout=300) as answer:
            return bytes(answer.read())

    def add_portrait(self) -> str:
        """Send the demo portrait and return its id."""
        picture = b64encode(demo_portrait().read_bytes()).decode()
        return str(self.post("/v1/portraits", portrait_base64=picture)["id"])

    def cpu_s(self) -> float:
        """Return the seconds of CPU it has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        """Return what it holds in memory."""
        return int(self.process.memory_info().rss)


@contextmanager
def serve(*options: str) -> Iterator[Served]:
    """Run a server in a folder of its own while the benchmark lasts."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*vortex_command(), "serve", "--port", "0", "--data", str(Path(folder) / "data"), *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        match = re.search(r"http://\S+", process.stderr.readline())
        if match is None:
            raise SystemExit(process.stderr.read())
        try:
            yield Served(match[0], psutil.Process(process.pid))
        finally:
            process.terminate()
            process.communicate(timeout=60)
