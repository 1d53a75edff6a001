"""``vortex serve`` and ``vortex ui``: videos over HTTP, and the page that makes them."""

from __future__ import annotations

import argparse
import os
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vortex.engines.base import ENGINES
from vortex.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from vortex.web.settings import ServerSettings

# option, type, what it limits; the default and the meaning are those of ServerSettings
_LIMITS = {
    "max_upload_mb": (float, "megabytes of one picture or sound"),
    "max_pixels": (int, "pixels of a picture"),
    "max_duration_s": (float, "seconds of speech or video"),
    "max_queued": (int, "jobs that wait"),
    "max_running": (int, "jobs that run at the same time"),
    "max_live": (int, "live faces at the same time"),
    "max_live_s": (float, "seconds for which a face may be live"),
    "max_portraits": (int, "portraits kept on disk"),
    "max_prepared": (int, "portraits kept in memory"),
    "max_connections": (int, "connections at the same time"),
    "keep_s": (float, "seconds for which results are kept"),
    "upload_timeout_s": (float, "seconds within which an upload has to be whole"),
    "idle_timeout_s": (float, "seconds for which an upload may pause"),
    "grace_s": (float, "seconds that running jobs get when the server stops"),
}


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    parser = commands.add_parser(
        "serve", parents=[common], help="make videos over HTTP",
        epilog="Every option may also come from the environment: --max-queued as VORTEX_MAX_QUEUED.",
    )  # fmt: skip
    _add_options(parser)
    parser.set_defaults(run=_serve, open_page=False)
    page = commands.add_parser("ui", parents=[common], help="open the page in the browser")
    page.add_argument("--no-browser", dest="open_page", action="store_false", help="only print the address")
    _add_options(page)
    page.set_defaults(run=_serve)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", help="address to listen on (default 127.0.0.1, this machine only)")
    add("--port", type=int, help="default 8321; 0 takes a free one")
    add("--data", metavar="DIR", help="folder for jobs and results")
    add("--engine", choices=ENGINES, help="default mesh")
    add("--device", help="for liveportrait: cuda or cpu")
    add("--api-key-file", metavar="FILE", help="keys, one a line; or one key in VORTEX_API_KEY")
    add("--allow-host", action="append", metavar="NAME", help="name by which a proxy calls the server")
    add("--ice-server", action="append", metavar="URL", help="STUN or TURN, for WebRTC: stun:HOST:PORT")
    for name, (kind, text) in _LIMITS.items():
        add("--" + name.replace("_", "-"), type=kind, metavar="N", help=text)


def _serve(args: argparse.Namespace, console: TextIO) -> int:
    try:
        from vortex.web.app import create_app, open_server
        from vortex.web.listener import run_server
    except ImportError as exc:
        raise MissingExtraError(
            f"The server needs the package {exc.name}. Run: pip install 'vortex-portrait[server]'"
        ) from exc
    server = open_server(read_settings(args, os.environ))

    def ready(address: str) -> None:
        print(f"vortex: serving on {address}  (Ctrl-C stops)", file=console)
        if args.open_page:
            # a browser may stay in the foreground
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    try:
        run_server(create_app(server), server, ready)
    except KeyboardInterrupt:
        # uvicorn raises the signal again when all is closed
        pass
    print("vortex: stopped; queued jobs are kept for the next start", file=console)
    return 0


def read_settings(args: argparse.Namespace, environment: Any) -> ServerSettings:
    """Return the settings from options, else from ``VORTEX_...`` variables, else the defaults.

    Raises:
        InputError: a variable or a limit that makes no sense.
    """
    from vortex.web.settings import ServerSettings, default_data_dir

    values: dict[str, Any] = {}
    kinds = {"host": str, "port": int, "engine": str, "device": str}
    kinds |= {name: kind for name, (kind, _) in _LIMITS.items()}
    for name, kind in kinds.items():
        given, variable = getattr(args, name), f"VORTEX_{name.upper()}"
        if given is None and environment.get(variable):
            try:
                given = kind(environment[variable])
            except ValueError as exc:
                raise InputError(f"{variable} is {environment[variable]!r}; give a number.") from exc
        if given is not None:
            values[name] = given
    data = args.data or environment.get("VORTEX_DATA")
    values["data_dir"] = Path(data) if data else default_data_dir()
    values["api_keys"] = _read_keys(args.api_key_file or environment.get("VORTEX_API_KEY_FILE"))
    if environment.get("VORTEX_API_KEY"):
        values["api_keys"] += (environment["VORTEX_API_KEY"],)
    values["ice_servers"] = _listed(args.ice_server, environment.get("VORTEX_ICE_SERVER"))
    values["allowed_hosts"] = _listed(args.allow_host, environment.get("VORTEX_ALLOW_HOST"))
    return ServerSettings(**values)


def _listed(given: list[str] | None, variable: str | None) -> tuple[str, ...]:
    """Return what an option gives that may stand several times, else what a variable lists with commas."""
    values = given or (variable or "").split(",")
    return tuple(value.strip() for value in values if value.strip())


def _read_keys(path: str | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = Path(path).read_text(encoding="utf-8").split()
    except (OSError, ValueError) as exc:
        raise InputError(f"The key file '{path}' cannot be read ({exc}).") from exc
    if not lines:
        raise InputError(f"The key file '{path}' is empty. Write one key a line.")
    return tuple(lines)
