"""The page in the browser, a client like any other: it uses only the public routes."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from vortex.demo import DEMO_SPEECH, demo_portrait

PAGE = Path(__file__).parents[1] / "page"
READING = ["GET", "HEAD"]
_FILES = StaticFiles(directory=PAGE)

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=READING)
def page() -> FileResponse:
    """Return the page."""
    # Browsers ask again each time, so that a new page never loads the scripts of an old one.
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


@router.api_route("/page/example.jpg", methods=READING)
def example_portrait() -> FileResponse:
    """Return the portrait of the demo."""
    return FileResponse(demo_portrait(), media_type="image/jpeg")


@router.api_route("/page/example.flac", methods=READING)
def example_speech() -> FileResponse:
    """Return the speech of the demo."""
    return FileResponse(DEMO_SPEECH, media_type="audio/flac")


@router.api_route("/page/{path:path}", methods=READING)
async def page_file(path: str, request: Request) -> Response:
    """Return a script, a style or an image of the page; nothing outside its folder."""
    # Not a mount: a router that is included in an application does not pass mounts on.
    return await _FILES.get_response(os.path.normpath(path), request.scope)
