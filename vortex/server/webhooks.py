"""Webhooks: a signed request to the URL that came with a job, when the job is settled.

Headers and signature are those of the Standard Webhooks specification (standardwebhooks.com), for which
receivers have libraries.
"""

from __future__ import annotations

import hmac
import http.client
import ipaddress
import json
import logging
import socket
import sqlite3
import ssl
import threading
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import SplitResult, urlsplit

from vortex.errors import InputError, in_one_line
from vortex.server.schema import Video
from vortex.server.settings import SECRET_PREFIX, ServerSettings
from vortex.server.store import Store, Webhook
from vortex.version import __version__

log = logging.getLogger("vortex.server")

POLL_S = 0.5
STOP_S = 1.0
TIMEOUT_S = 10.0
"""How long a receiver may take to accept a connection, and to answer."""
RETRY_DELAYS_S = (5.0, 30.0, 120.0, 600.0, 3600.0)
"""Waits between the attempts; after the last one, the webhook is given up."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Addresses of IPv6 behind which every address of IPv4 stands, also private ones (RFC 6052)."""
GONE = 410
"""Status by which a receiver says that it wants no more; it is not asked again."""


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: v1 and the HMAC-SHA256 of id, time stamp and body, in base64.

    Args:
        secret: ``whsec_`` and the key in base64.
        message_id: the same in each attempt, so that a receiver can drop a repetition.
        timestamp: seconds since 1970; a receiver refuses old ones.
        body: the bytes that are sent.
    """
    key = b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.digest(key, signed, sha256)).decode()


def check_webhook(url: str, settings: ServerSettings) -> None:
    """Raise InputError if webhooks are off, or the URL has no host, or names a private address itself.

    A name is looked up only when the webhook is sent, because it may point elsewhere by then.
    """
    if not settings.webhook_secret:
        raise InputError(
            "webhook_url: this server sends no webhooks. Its operator allows them with VORTEX_WEBHOOK_SECRET."
        )
    host, _ = _place_of(urlsplit(url))
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if host not in settings.allow_webhook:
        _check_public(str(address))


def _place_of(parts: SplitResult) -> tuple[str, int]:
    """Return host and port of a URL; InputError if it has none, or a user name or password."""
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise InputError("webhook_url is no address such as https://example.org/hook.")
    return host, port or (443 if parts.scheme == "https" else 80)


def _check_public(address: str) -> None:
    """Raise InputError unless anybody on the internet could reach the IP address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    # An IPv4 address may be wrapped in one of IPv6.
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None) or found
    if not inner.is_global or found.is_multicast or (found.version == 6 and found in NAT64):
        raise InputError(
            "webhook_url is in a private network. The operator of the server can add its host to the setting "
            "allow_webhook."
        )


def _address_of(host: str, port: int, settings: ServerSettings) -> str:
    """Return the IP address to connect to, every candidate of which was checked."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if host not in settings.allow_webhook:
        for address in addresses:
            _check_public(address)
    return addresses[0]


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked: no second look-up of the name can give another one."""

    def __init__(self, host: str, port: int, address: str, *, encrypted: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S)
        self._address, self._encrypted = address, encrypted

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), TIMEOUT_S)
        if self._encrypted:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


@dataclass(eq=False)
class Webhooks:
    """Sends what is due, in one thread; what could not be sent is tried again, also after a restart."""

    store: Store
    settings: ServerSettings

    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the thread, if there is a secret to sign with."""
        if self.settings.webhook_secret:
            self._thread = threading.Thread(target=self._send_due, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; an attempt that waits for its receiver is made again by the next server."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _send_due(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                for webhook in self.store.due_webhooks():
                    if self._stopping.is_set():
                        return
                    self._send(webhook)
            except sqlite3.Error as exc:
                log.warning("webhooks are sent later: %s", in_one_line(exc))

    def _send(self, webhook: Webhook) -> None:
        """Make one attempt, and record what follows from it."""
        try:
            status, failure = self._post(webhook), ""
            if status // 100 != 2:
                failure = f"status {status}"
        except (OSError, InputError, http.client.HTTPException, UnicodeError) as exc:
            status, failure = 0, in_one_line(exc)
        last = webhook.attempts >= len(RETRY_DELAYS_S) or status == GONE
        if failure:
            # Not the URL, which may contain a secret.
            next_step = "is given up" if last else "is tried again"
            log.warning("webhook of job %s %s: %s", webhook.job_id, next_step, failure)
        if not failure or last:
            self.store.delete_webhook(webhook.job_id)
        else:
            self.store.postpone_webhook(webhook.job_id, RETRY_DELAYS_S[webhook.attempts])

    def _post(self, webhook: Webhook) -> int:
        """Send the state of the job; return the status. A redirection is not followed."""
        job = self.store.job(webhook.job_id)
        if job is None:
            return GONE
        now_s = int(time.time())
        event = {"type": f"video.{job.state}", "timestamp": datetime.fromtimestamp(now_s, UTC).isoformat()}
        body = json.dumps({**event, "data": Video.of(job, 0).model_dump(mode="json")}).encode()
        parts = urlsplit(webhook.url)
        host, port = _place_of(parts)
        address = _address_of(host, port, self.settings)
        message_id = f"{job.id}.{job.revision}"
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"vortex/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": sign(self.settings.webhook_secret, message_id, now_s, body),
        }
        connection = _Connection(host, port, address, encrypted=parts.scheme == "https")
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body, headers)
            return connection.getresponse().status
        finally:
            connection.close()
