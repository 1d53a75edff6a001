"""``vortex serve`` and ``vortex ui``: videos over HTTP, and the page that makes them."""

from __future__ import annotations

import argparse
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vortex.errors import MissingExtraError

if TYPE_CHECKING:
    from vortex.server.settings import ServerSettings


class _ServeParser(argparse.ArgumentParser):
    """Adds a flag for each setting when the command is parsed.

    The settings are defined with pydantic, which only the extra "server" installs, whose import takes 0.2 s.
    """

    _has_flags = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        try:
            from vortex.server.settings import ServerSettings, shown_default
        except ImportError:
            # The command itself reports what is missing.
            return super().parse_known_args(args, namespace)[0], []
        metavars: dict[Any, str] = {int: "N", float: "N", Path: "PATH", Path | None: "PATH"}
        for name, field in () if self._has_flags else ServerSettings.model_fields.items():
            if field.repr:
                default = shown_default(name)
                # The settings check the value and have the default.
                self.add_argument(
                    "--" + name.replace("_", "-"),
                    action="append" if field.default == () else "store",
                    metavar=metavars.get(field.annotation, "NAME"),
                    help=f"{field.description} (default {default})" if default else field.description,
                )
        self._has_flags = True
        return super().parse_known_args(args, namespace)


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this file to the parser; ``common`` holds the options of every command."""
    serve = commands.add_parser(
        "serve", parents=[common], help="make videos over HTTP",
        epilog="Every option may also come from the environment: --max-queued as VORTEX_MAX_QUEUED. "
        "VORTEX_API_KEY is a key.",
    )  # fmt: skip
    serve.set_defaults(run=_serve, open_page=False)
    page = commands.add_parser("ui", parents=[common], help="open the page in the browser")
    page.add_argument("--no-browser", dest="open_page", action="store_false", help="only print the address")
    page.set_defaults(run=_serve)
    # argparse makes every subparser of one class.
    serve.__class__ = page.__class__ = _ServeParser


def _serve(args: argparse.Namespace, console: TextIO) -> int:
    try:
        from vortex.server.app import create_app, run_server
        from vortex.server.context import ServerContext
    except ImportError as exc:
        raise MissingExtraError(
            f"The server needs the package {exc.name}. Run: pip install 'vortex-portrait[server]'"
        ) from exc

    def on_ready(address: str) -> None:
        print(f"vortex: serving on {address}  (Ctrl-C stops)", file=console)
        if args.open_page:
            # A browser may stay in the foreground.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    with ServerContext(read_settings(args)) as context:
        try:
            run_server(create_app(context), on_ready)
        except KeyboardInterrupt:
            # uvicorn raises the signal again when everything is closed.
            pass
    print("vortex: stopped; queued jobs are kept for the next start", file=console)
    return 0


def read_settings(args: argparse.Namespace) -> ServerSettings:
    """Return the settings from flags, else from ``VORTEX_...`` variables, else the defaults.

    Raises:
        InputError: a value that its setting does not accept.
    """
    from vortex.server.settings import ServerSettings

    given = {name: getattr(args, name, None) for name in ServerSettings.model_fields}
    return ServerSettings(**{name: value for name, value in given.items() if value is not None})
