"""Webhooks are signed as the specification says, and reach no private network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'server' is not installed")

from vortex.errors import InputError
from vortex.server import webhooks
from vortex.server.settings import ServerSettings
from vortex.server.webhooks import check_webhook, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def settings(tmp_path: Path, **more: Any) -> ServerSettings:
    return ServerSettings(data=tmp_path, **{"webhook_secret": SECRET, **more})


def test_the_signature_is_that_of_the_published_example() -> None:
    # The test of the specification's own Python library.
    body = b'{"test": 2432232314}'
    found = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x", "http://10.1.2.3", "http://192.168.0.1:8080/", "http://169.254.169.254/latest",
        "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[fe80::1]/", "http://[64:ff9b::7f00:1]/",
        "http://0.0.0.0/", "http://100.64.0.1/", "http://224.0.0.1/", "http://[2002:7f00:1::]/",
    ],
)  # fmt: skip
def test_a_private_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="private network"):
        check_webhook(url, settings(tmp_path))


@pytest.mark.parametrize(
    "url", ["http://", "ftp://example.org", "https://user:word@example.org/", "http://a:b"]
)
def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="no address"):
        check_webhook(url, settings(tmp_path))


def test_a_public_address_and_one_that_the_operator_allows_are_accepted(tmp_path: Path) -> None:
    check_webhook("https://example.org/hook", settings(tmp_path))
    check_webhook("https://93.184.215.14/hook", settings(tmp_path))
    check_webhook("http://127.0.0.1:9/hook", settings(tmp_path, allow_webhook="127.0.0.1"))


def test_a_name_that_leads_into_a_private_network_is_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", (address, port)) for address in ("93.184.215.14", "10.0.0.1")]

    monkeypatch.setattr(webhooks.socket, "getaddrinfo", resolve)
    with pytest.raises(InputError, match="private network"):
        webhooks._address_of("example.org", 443, settings(tmp_path))


def test_without_a_secret_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="VORTEX_WEBHOOK_SECRET"):
        check_webhook("https://example.org/hook", settings(tmp_path, webhook_secret=""))


@pytest.mark.parametrize("secret", ["short", "whsec_c2hvcnQ=", "whsec_no base64 at all"])
def test_a_weak_secret_is_refused_and_not_repeated(tmp_path: Path, secret: str) -> None:
    with pytest.raises(InputError, match="webhook_secret") as caught:
        settings(tmp_path, webhook_secret=secret)
    assert secret not in str(caught.value)
