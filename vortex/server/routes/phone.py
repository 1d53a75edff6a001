"""``/v1/phone``: a QR code with which a phone in the same network opens the page."""

from __future__ import annotations

import socket
from urllib.parse import quote

import segno
from fastapi import APIRouter, HTTPException
from starlette.requests import Request

from vortex.server.context import Context
from vortex.server.errors import problems
from vortex.server.schema import PhoneCode
from vortex.server.security import key_in
from vortex.server.settings import LOOPBACK

EVERY_ADDRESS = ("0.0.0.0", "::")

router = APIRouter(tags=["service"])


@router.get("/v1/phone", responses=problems(409))
def phone_code(context: Context, request: Request) -> PhoneCode:
    """Return the address of the page for a phone, with the key of this request, and its QR code.

    The key follows a ``#``: browsers keep that part to themselves, so that no log gets it. 409 while the
    server listens on its own machine only.
    """
    host = _reachable_host(request.url.hostname or "", context.settings.host)
    if host is None:
        raise HTTPException(
            409, "The server listens on this machine only. Start it with --host 0.0.0.0 and a key."
        )
    port = f":{request.url.port}" if request.url.port else ""
    key = key_in(request.headers)
    address = f"{request.url.scheme}://{host}{port}/" + (f"#key={quote(key, safe='')}" if key else "")
    code = segno.make(address, micro=False)
    return PhoneCode(address=address, image=code.svg_data_uri(scale=4, border=4, dark="#000", light="#fff"))


def _reachable_host(asked: str, listening: str) -> str | None:
    """Return the name by which others reach the server; None if they cannot.

    The name under which the browser asked, unless that means the machine itself.
    """
    if asked not in LOOPBACK:
        return f"[{asked}]" if ":" in asked else asked
    return _own_address() if listening in EVERY_ADDRESS else None


def _own_address() -> str | None:
    """Return the address of this machine in its network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: it asks the system which of its addresses leads elsewhere (192.0.2.1: RFC 5737).
            probe.connect(("192.0.2.1", 9))
            found = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if found in LOOPBACK else found
