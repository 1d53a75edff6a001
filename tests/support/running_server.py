"""A server as a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GRACE_S = 30.0
"""A server that has not ended this long after SIGTERM is killed."""


@contextmanager
def running_server(folder: Path, command: str = "serve", *options: str, **environment: str) -> Iterator[str]:
    """Yield the address of ``vortex serve`` or ``vortex ui``; the process always ends with the block.

    If the block succeeds, the server has to end in order, without a traceback, and leave no upload.
    """
    started = [sys.executable, "-m", "vortex", command, "--port", "0", "--data", str(folder), *options]
    server = subprocess.Popen(started, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert server.stderr is not None
    try:
        first = server.stderr.readline()
        match = re.search(r"http://\S+", first)
        assert match, first
        yield match[0]
        server.terminate()
        _, printed = server.communicate(timeout=GRACE_S)
    finally:
        # After a failure the server still runs, or its pipe is still open.
        server.kill()
        server.communicate()
    assert server.returncode == 0
    assert "Traceback" not in printed, printed
    assert list((folder / "incoming").iterdir()) == []


def post_json(address: str, **body: object) -> dict[str, Any]:
    """Send JSON and return the answer."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def get_json(address: str) -> dict[str, Any]:
    """Return the JSON at an address."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        return dict(json.load(answer))
