"""Shared by all tests: no test reaches the network unless it is marked for it."""

from __future__ import annotations

import glob
import os
import socket
from collections.abc import Iterator

import pytest

if not glob.glob("/dev/nvidia[0-9]*") and not os.path.exists("/dev/dxg"):
    # without a GPU, Triton's kernels are run by its interpreter, which it has to know before it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _loopback_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if "network" not in request.keywords:
        connect = socket.socket.connect

        def guarded(self: socket.socket, address: object) -> None:
            host = address[0] if isinstance(address, tuple) else ""
            if self.family in (socket.AF_INET, socket.AF_INET6) and host not in (
                "127.0.0.1",
                "::1",
                "localhost",
            ):
                raise OSError(f"a test tried to reach {host}; mark it 'network' or use loopback")
            connect(self, address)  # type: ignore[arg-type]

        monkeypatch.setattr(socket.socket, "connect", guarded)
    yield
