"""What a server allows, in one frozen value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vortex.errors import InputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIN_KEY_LENGTH = 16


def default_data_dir() -> Path:
    """Return the folder for jobs and portraits: ``vortex/server`` where the XDG rules keep state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "vortex" / "server"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits and places of one server. Times in seconds; 0 < every limit.

    ``api_keys``: whoever sends one of them is let in; empty, everybody on this machine is. ``allowed_hosts``:
    names by which the server may be called besides those of loopback. ``max_pixels`` concerns uploaded
    pictures, ``max_duration_s`` speech and video. Finished jobs and unused portraits live for ``keep_s``.
    ``max_prepared`` portraits are held ready in memory, about 15 MB each. An upload has to be whole within
    ``upload_timeout_s`` and may not pause for longer than ``idle_timeout_s``. ``grace_s`` is how long running
    jobs may go on after the signal to stop, before they return to the queue. At most ``max_live`` faces are
    live at the same time, each for ``max_live_s``. ``ice_servers`` are addresses of STUN and TURN, by which
    WebRTC finds its way through routers.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8321
    engine: str = "mesh"
    device: str | None = None
    api_keys: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_upload_mb: float = 50
    max_pixels: int = 40_000_000
    max_duration_s: float = 300
    max_queued: int = 100
    max_running: int = max((os.cpu_count() or 2) // 2, 1)
    max_live: int = os.cpu_count() or 2
    max_live_s: float = 3600
    ice_servers: tuple[str, ...] = ()
    max_portraits: int = 200
    max_prepared: int = 16
    max_connections: int = 200
    keep_s: float = 24 * 3600
    upload_timeout_s: float = 120
    idle_timeout_s: float = 15
    grace_s: float = 10

    def __post_init__(self) -> None:
        """Refuse limits that allow nothing, and an open door to the network.

        Raises:
            InputError: a limit that is not positive, a short key, or no key on a public address.
        """
        for name in ("max_upload_mb", "max_pixels", "max_duration_s", "max_queued", "max_running",
                     "max_live", "max_live_s", "max_portraits", "max_prepared", "max_connections", "keep_s",
                     "upload_timeout_s", "idle_timeout_s", "grace_s"):  # fmt: skip
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0.")
        if any(len(key) < MIN_KEY_LENGTH for key in self.api_keys):
            raise InputError(
                f"An API key has fewer than {MIN_KEY_LENGTH} characters. Make one with: openssl rand -hex 24"
            )
        if self.host not in LOOPBACK and not self.api_keys:
            raise InputError(
                f"host is {self.host!r}, which others can reach. Set an API key in VORTEX_API_KEY or "
                "--api-key-file, or stay on 127.0.0.1."
            )

    @property
    def max_body_bytes(self) -> int:
        """Largest request: base64 takes four bytes for three."""
        return round(self.max_upload_mb * 1e6 * 4 / 3) + 65_536

    @property
    def max_upload_bytes(self) -> int:
        """Largest picture or sound."""
        return round(self.max_upload_mb * 1e6)
