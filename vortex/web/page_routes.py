"""The page, which is a client like any other: it uses nothing but the addresses that everybody may use."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from vortex.demo import DEMO_SPEECH, demo_portrait

PAGE = Path(__file__).parent / "page"
# a new version of the server must not meet the scripts of the old one
_FRESH = {"Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)
page_files = StaticFiles(directory=PAGE)


@router.get("/")
def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE / "index.html", headers=_FRESH)


@router.get("/page/example.jpg")
def example_portrait() -> FileResponse:
    """Return the portrait of the demo."""
    return FileResponse(demo_portrait(), media_type="image/jpeg")


@router.get("/page/example.flac")
def example_speech() -> FileResponse:
    """Return the speech of the demo."""
    return FileResponse(DEMO_SPEECH, media_type="audio/flac")
