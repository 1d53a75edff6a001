"""The tables of docs/server.md and docs/live.md agree with the definitions of settings and options."""

from __future__ import annotations

from typing import Any

import pytest
from support.paths import ROOT

from vortex.options import LiveOptions, OptionGroup, VideoOptions, default_of, options_of
from vortex.server.schema import LiveOffer, LiveRequest, VideoRequest
from vortex.server.settings import PREFIX, ServerSettings, shown_default

SERVER, LIVE = ((ROOT / "docs" / name).read_text().splitlines() for name in ("server.md", "live.md"))


def setting_row(name: str) -> str:
    field = ServerSettings.model_fields[name]
    flag = f"`--{name.replace('_', '-')}`" if field.repr else "none"
    default = f"`{shown_default(name)}`" if shown_default(name) else ""
    return f"| {flag} | `{PREFIX}{name.upper()}` | {default} | {field.description} |"


def option_row(group: type[OptionGroup], name: str) -> str:
    option, default = options_of(group)[name], default_of(group, name)
    limits = [] if option.minimum is None else [f"{option.minimum:g} to {option.maximum:.10g}"]
    limits += [f"at most {option.max_length} characters"] if option.max_length else []
    shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"| `{name}` | {option.kind} | {shown} | {'; '.join([option.help, *limits])} |"


@pytest.mark.parametrize("name", ServerSettings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    assert setting_row(name) in SERVER


@pytest.mark.parametrize("name", options_of(VideoOptions))
def test_every_option_of_a_video_is_described(name: str) -> None:
    assert option_row(VideoOptions, name) in SERVER


@pytest.mark.parametrize("name", options_of(LiveOptions))
def test_every_option_of_a_live_face_is_described(name: str) -> None:
    assert option_row(LiveOptions, name) in LIVE


def described(page: list[str]) -> set[str]:
    """Return the names in the first column of all tables; flags and addresses are no identifiers."""
    cells = [line.split("|")[1].strip(" `") for line in page if line.startswith("| `")]
    return {cell for cell in cells if cell.isidentifier()}


def test_no_field_is_described_that_requests_do_not_have() -> None:
    assert described(SERVER) == {name.removesuffix("_base64") for name in VideoRequest.model_fields}
    assert described(LIVE) == set(LiveRequest.model_fields)


@pytest.mark.parametrize(
    ("model", "group", "own"),
    [
        (
            VideoRequest,
            VideoOptions,
            {
                *("text", "name", "webhook_url", "check", "format", "portrait_id", "portrait_base64"),
                *("speech_base64", "driving_base64", "background_picture_base64"),
            },
        ),
        (LiveRequest, LiveOptions, {"portrait_id", "pace"}),
        (LiveOffer, LiveOptions, {"portrait_id", "pace", "sdp", "type"}),
    ],
)
def test_requests_have_the_options_of_vortex_and_few_fields_of_their_own(
    model: Any, group: type[OptionGroup], own: set[str]
) -> None:
    schema = model.model_json_schema()["properties"]
    assert set(schema) == set(options_of(group)) | own
    for name, option in options_of(group).items():
        if model is LiveOffer and name == "sample_rate_hz":
            # Opus has one sample rate.
            assert schema[name]["minimum"] == schema[name]["maximum"] == schema[name]["default"] == 48_000
            continue
        assert schema[name]["default"] == default_of(group, name)
        assert schema[name]["description"] == option.help
        kind = schema[name].get("anyOf", [schema[name]])[0]
        limits = (kind.get("minimum"), kind.get("maximum"), kind.get("multipleOf"), kind.get("maxLength"))
        assert limits == (option.minimum, option.maximum, option.multiple_of, option.max_length)
