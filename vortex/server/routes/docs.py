"""``/docs``: a page of all addresses and fields with examples, made from the definition of the options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from vortex.server.routes.page import READING
from vortex.server.schema import LiveRequest, RequestModel, VideoRequest

router = APIRouter(include_in_schema=False)

_SHELL = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>vortex: fields and addresses</title>
  <link rel="icon" href="/page/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/page/style.css">
</head>
<body class="docs">
  <header>
    <img src="/page/icon.svg" alt="" width="36" height="36">
    <h1>vortex: fields and addresses</h1>
    <p><a href="/">The page</a> · <a href="/openapi.json">OpenAPI description</a></p>
  </header>
  <main>{sections}</main>
</body>
</html>
"""
_EXAMPLES = """curl -F portrait=@portrait.jpg -F speech=@speech.wav -F preset=excited {address}/v1/videos
curl {address}/v1/videos/ID
curl -N {address}/v1/videos/ID/events
curl -o talking.mp4 {address}/v1/videos/ID/video.mp4"""


@router.api_route("/docs", methods=READING)
def docs(request: Request) -> HTMLResponse:
    """Return the page; it needs no key and asks nothing of another server."""
    description = request.app.openapi()
    example = _EXAMPLES.format(address=str(request.base_url).rstrip("/"))
    key = "With a key, add: -H 'Authorization: Bearer KEY'."
    sections = [
        _section("First requests", f"<pre>{escape(example)}</pre><p>{escape(key)}</p>"),
        _section("Addresses", _table(("Address", "What it does"), _addresses(description))),
        _section("Fields of a video", _fields_of(VideoRequest)),
        _section("Fields of a live face", _fields_of(LiveRequest)),
    ]
    return HTMLResponse(_SHELL.replace("{sections}", "\n".join(sections)))


def _section(title: str, content: str) -> str:
    """Return a card; where the window is narrow, its content scrolls in its own box."""
    box = f"<div class='wide' tabindex='0' role='region' aria-label='{escape(title)}'>{content}</div>"
    return f"<section class='card'><h2>{escape(title)}</h2>{box}</section>"


def _addresses(description: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            text = operation.get("description", "").split("\n\n")[0]
            plain = " ".join(text.split()).replace("``", "")
            yield f"<code>{method.upper()} {escape(path)}</code>", escape(plain)


@cache
def _fields_of(model: type[RequestModel]) -> str:
    """Return the table of the fields of a request, as its JSON Schema describes them."""
    rows = []
    for name, field in model.model_json_schema()["properties"].items():
        kind = next((entry for entry in field.get("anyOf", [field]) if entry.get("type") != "null"), field)
        is_file = name.endswith("_base64")
        limits = [f"{kind['minimum']:.10g} to {kind['maximum']:.10g}"] if "minimum" in kind else []
        limits += [f"at most {kind['maxLength']} characters"] if "maxLength" in kind else []
        shown = "file; base64 in JSON, as " + name if is_file else str(kind.get("type", "text"))
        meaning = "; ".join([str(field.get("description", "")), *limits]).strip("; ")
        default = field.get("default")
        examples = field.get("examples", kind.get("examples")) or _examples_of(name, kind, default)
        rows.append(
            (
                f"<code>{escape(name.removesuffix('_base64'))}</code>",
                escape(shown),
                "" if default is None else f"<code>{escape(_as_text(default))}</code>",
                escape(meaning),
                ", ".join(f"<code>{escape(_as_text(value))}</code>" for value in examples),
            )
        )
    return _table(("Field", "Kind", "Default", "Meaning", "Examples"), rows)


def _examples_of(name: str, kind: dict[str, Any], default: object) -> list[str]:
    """Return values that a reader can try for a field whose definition has none."""
    if name.endswith("_base64"):
        return [f"@{name.removesuffix('_base64')}.{'wav' if name.startswith('speech') else 'jpg'}"]
    if isinstance(default, bool):
        return [_as_text(not default)]
    return [f"{kind[limit]:.10g}" for limit in ("minimum", "maximum") if limit in kind]


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table of cells that are HTML."""
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
