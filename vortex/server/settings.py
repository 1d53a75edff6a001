"""The settings of a server: each one defined once, for the environment and the command line."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vortex.errors import InputError
from vortex.media.picture import MAX_PIXELS
from vortex.options import EngineOptions, default_of, options_of
from vortex.runtime.memory import machine_bytes
from vortex.types import MAX_DURATION_S

LONGEST_S = 10 * 365 * 86_400.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIN_KEY_LENGTH = 16
PREFIX = "VORTEX_"
SECRET_PREFIX = "whsec_"
MIN_SECRET_BYTES = 24


def _as_tuple(value: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of a list, or of a text with commas between them."""
    names = value.split(",") if isinstance(value, str) else value
    return tuple(name.strip() for name in names if name.strip())


def _as_ice(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not re.fullmatch(
            r"(stuns?|turns?):(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(\?transport=\w+)?", name
        ):
            raise ValueError(f"{name[:60]!r} is no address such as stun:HOST:PORT")
    return names


def _as_origins(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not re.fullmatch(r"https?://[^/?#@\s]+", name):
            raise ValueError(f"{name[:60]!r} is no origin such as https://app.example.org")
    return names


def _as_secret(secret: str) -> str:
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if secret and (not secret.startswith(SECRET_PREFIX) or len(key) < MIN_SECRET_BYTES):
        raise ValueError(f'Make one with: echo "{SECRET_PREFIX}$(openssl rand -base64 32)"')
    return secret


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_as_tuple)]
"""Several texts; a variable of the environment has commas between them."""


class ServerSettings(BaseSettings):
    """Limits and places of one server.

    Each setting comes from an argument, else from the environment (``VORTEX_`` and its name in upper case),
    else from its default. The command line has a flag for each one: ``max_queued`` becomes ``--max-queued``.

    Raises InputError for a value that its setting does not accept, a key that is too short or cannot be read,
    and an address that others can reach without a key.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", validate_default=False
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8321, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    data: Path = Field(
        # Where the XDG base directory specification keeps state.
        default_factory=lambda: Path(
            os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state", "vortex/server"
        ),
        description="folder for jobs and results; default, vortex/server in the state folder of the user",
    )
    engine: str = Field(
        default_of(EngineOptions, "engine"), description=options_of(EngineOptions)["engine"].help
    )
    device: str | None = Field(None, description=options_of(EngineOptions)["device"].help)
    # It has no flag, because every user of a machine can read its commands.
    api_key: str = Field("", repr=False, description="a key that clients must send")
    api_key_file: Path | None = Field(None, description="file of keys that clients must send, one a line")
    allow_host: Names = Field((), description="name by which a proxy calls the server, such as *.example.org")
    allow_origin: Annotated[Names, AfterValidator(_as_origins)] = Field(
        (), description="origin whose pages may use the server (CORS), such as https://app.example.org"
    )
    # Like a key, it has no flag.
    webhook_secret: Annotated[str, AfterValidator(_as_secret)] = Field(
        "", repr=False, description="signs webhooks; whsec_ and at least 24 bytes in base64"
    )
    allow_webhook: Names = Field(
        (), description="host in a private network that webhooks may call, such as 127.0.0.1"
    )
    access_log: Path | None = Field(None, description="file that gets a line of JSON for each request")
    ice_server: Annotated[Names, AfterValidator(_as_ice)] = Field(
        (), description="STUN or TURN server for WebRTC, as stun:HOST:PORT"
    )
    max_upload_mb: float = Field(50, gt=0, le=100_000, description="megabytes of one picture, sound or video")
    max_pixels: int = Field(40_000_000, gt=0, le=MAX_PIXELS, description="pixels of a picture")
    max_memory_mb: float = Field(
        default_factory=lambda: machine_bytes() / 2e6,
        gt=0,
        le=100_000_000,
        description="megabytes that reading the files of all requests may take together; default, half of "
        "the memory",
    )
    max_duration_s: float = Field(300, gt=0, le=MAX_DURATION_S, description="seconds of speech or video")
    max_queued: int = Field(100, gt=0, le=1_000_000, description="jobs that wait")
    max_running: int = Field(
        default_factory=lambda: max((os.cpu_count() or 2) // 2, 1),
        gt=0,
        le=1000,
        description="jobs that run at the same time; default, one for every two processors",
    )
    max_live: int = Field(
        default_factory=lambda: os.cpu_count() or 2,
        gt=0,
        le=1000,
        description="live faces at the same time; default, one for every processor",
    )
    max_live_s: float = Field(3600, gt=0, le=LONGEST_S, description="seconds for which a face may be live")
    max_portraits: int = Field(200, gt=0, le=1_000_000, description="portraits kept on disk")
    max_prepared: int = Field(16, gt=0, le=10_000, description="portraits kept in memory, about 15 MB each")
    max_connections: int = Field(200, gt=0, le=65_535, description="connections at the same time")
    keep_s: float = Field(
        86_400, gt=0, le=LONGEST_S, description="seconds for which results and unused portraits are kept"
    )
    upload_timeout_s: float = Field(
        120, gt=0, le=LONGEST_S, description="seconds within which an upload must be complete"
    )
    idle_timeout_s: float = Field(
        15, gt=0, le=LONGEST_S, description="seconds for which a header or an upload may pause"
    )
    grace_s: float = Field(
        10,
        gt=0,
        le=86_400,
        description="seconds that running jobs get when the server stops, before they are queued again",
    )

    def __init__(self, **values: Any) -> None:
        """See the class."""
        try:
            super().__init__(**values)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                known = ", ".join(type(self).model_fields)
                raise InputError(f"Unknown setting {name!r}; known are {known}.") from exc
            message = first["msg"].replace("Input", "It")
            shown = repr(first["input"]) if type(self).model_fields[name].repr else "not accepted"
            raise InputError(f"The setting {name} is {shown}. {message}.") from exc
        if any(len(key) < MIN_KEY_LENGTH for key in self.api_keys):
            raise InputError(
                f"An API key has fewer than {MIN_KEY_LENGTH} characters. Make one with: openssl rand -hex 24"
            )
        if self.host not in LOOPBACK and not self.api_keys:
            raise InputError(
                f"host is {self.host!r}, which others can reach. Set an API key in {PREFIX}API_KEY or "
                "api_key_file, or stay on 127.0.0.1."
            )

    @cached_property
    def api_keys(self) -> tuple[str, ...]:
        """Every key that is accepted; empty if none is asked for."""
        own, path = (self.api_key,) if self.api_key else (), self.api_key_file
        if path is None:
            return own
        try:
            lines = path.read_text(encoding="utf-8").split()
        except (OSError, ValueError) as exc:
            raise InputError(f"The key file '{path}' cannot be read ({exc}).") from exc
        if not lines:
            raise InputError(f"The key file '{path}' is empty. Write one key a line.")
        return (*lines, *own)

    @property
    def max_body_bytes(self) -> int:
        """Largest request: base64 takes four bytes for three."""
        return round(self.max_upload_mb * 1e6 * 4 / 3) + 65_536

    @property
    def max_upload_bytes(self) -> int:
        """Largest picture, sound or video."""
        return round(self.max_upload_mb * 1e6)


def shown_default(name: str) -> str:
    """Return the default of a setting; empty if there is none, or if its description has it."""
    field = ServerSettings.model_fields[name]
    return "" if field.default_factory or not field.default else str(field.default)
