"""Every interface takes every option from the one definition: same names, defaults, limits and messages."""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import vortex
import vortex.options as options
from vortex.batch.jobs import COLUMNS, read_jobs
from vortex.cli.main import build_parser
from vortex.cli.options import parsed_options
from vortex.errors import InputError
from vortex.generate.run import generate
from vortex.motion.presets import PresetTrack
from vortex.options import (
    AnimateOptions,
    CaptureOptions,
    CheckOptions,
    DriveOptions,
    EncodingOptions,
    EngineOptions,
    FaceOptions,
    FrameOptions,
    FramingOptions,
    GenerateOptions,
    LiveOptions,
    OptionGroup,
    OutputOptions,
    PortraitOptions,
    RenderOptions,
    SayOptions,
    SpeakOptions,
    SpeechOptions,
    TransferOptions,
    VideoOptions,
    default_of,
    options_of,
)

GROUPS = (
    EncodingOptions,
    EngineOptions,
    PortraitOptions,
    FrameOptions,
    FramingOptions,
    FaceOptions,
    RenderOptions,
    TransferOptions,
    DriveOptions,
    CaptureOptions,
    AnimateOptions,
    SpeechOptions,
    SayOptions,
    SpeakOptions,
    VideoOptions,
    LiveOptions,
    CheckOptions,
    GenerateOptions,
)


def command(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(words)


def flags_of(name: str) -> set[str]:
    """Return the names of all options that a command of the command line has."""
    parser = build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {action.dest for action in commands.choices[name]._actions}


# command, its required words, and the group whose options it takes
COMMANDS = [
    ("animate", ("a.jpg", "b.wav", "-o", "c.mp4"), AnimateOptions),
    ("drive", ("a.jpg", "b.mp4", "-o", "c.mp4"), DriveOptions),
    ("capture", ("b.mp4", "-o", "c.npz"), CaptureOptions),
    ("demo", (), AnimateOptions),
    ("speak", ("a.jpg", "text", "-o", "c.mp4"), SpeakOptions),
    ("say", ("text", "-o", "c.wav"), SayOptions),
    ("generate", ("--text", "text", "-o", "c.mp4"), GenerateOptions),
    ("check", ("c.mp4",), CheckOptions),
    ("batch", ("jobs.csv", "--out", "d"), VideoOptions),
]
FUNCTIONS = [
    (vortex.animate, AnimateOptions),
    (vortex.drive, DriveOptions),
    (vortex.capture, CaptureOptions),
    (vortex.speak, SpeakOptions),
    (vortex.say, SayOptions),
    (vortex.check, CheckOptions),
    (vortex.open_live_face, LiveOptions),
    (generate, GenerateOptions),
    (read_jobs, VideoOptions),
]


@pytest.mark.parametrize(("name", "words", "group"), COMMANDS)
def test_commands_have_every_option_with_its_default(
    name: str, words: tuple[str, ...], group: type[OptionGroup]
) -> None:
    assert options_of(group).keys() <= flags_of(name)
    assert parsed_options(command(name, *words), group) == group()


@pytest.mark.parametrize(("name", "words", "group"), COMMANDS)
def test_commands_that_write_files_take_force(
    name: str, words: tuple[str, ...], group: type[OptionGroup]
) -> None:
    assert not parsed_options(command(name, *words), OutputOptions).force
    assert parsed_options(command(name, *words, "--force"), OutputOptions).force


@pytest.mark.parametrize("function", [vortex.animate, vortex.drive, vortex.speak, vortex.say, generate,
                                      vortex.run_batch])  # fmt: skip
def test_functions_that_write_files_take_force(function: Callable[..., Any]) -> None:
    assert inspect.signature(function).parameters["force"].default is default_of(OutputOptions, "force")


@pytest.mark.parametrize("group", GROUPS)
def test_defaults_are_exact_values_that_parse_to_themselves(group: type[OptionGroup]) -> None:
    exact = group()
    parsed = group.parse(**exact.as_json())
    assert parsed == exact
    for name in options_of(group):
        assert type(getattr(exact, name)) is type(getattr(parsed, name)), name


def test_importing_the_options_imports_no_engine() -> None:
    code = (
        "import sys, vortex.options; "
        "print([name for name in sys.modules if name.endswith(('.spec', '.kokoro', '.device'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("function", "group"), FUNCTIONS)
def test_functions_have_every_option_with_its_default(
    function: Callable[..., Any], group: type[OptionGroup]
) -> None:
    shown = inspect.signature(function).parameters
    keywords = {n: p.default for n, p in shown.items() if p.kind is p.KEYWORD_ONLY}
    assert shown["preset"].annotation == "PresetLike" if "preset" in shown else True
    for name, option in options_of(group).items():
        assert keywords[name] == default_of(group, name)
        assert f"{name}: {option.help}" in (function.__doc__ or "")


@pytest.mark.parametrize("group", GROUPS)
def test_type_checkers_know_the_same_keywords(group: type[OptionGroup]) -> None:
    keywords = getattr(options, group.__name__.replace("Options", "Keywords"), None)
    assert keywords is not None
    hints = get_type_hints(keywords)
    assert hints.keys() == options_of(group).keys()
    kinds = {"text": str, "whole": int, "number": float, "flag": bool}
    for name, option in options_of(group).items():
        assert kinds[option.kind].__name__ in str(hints[name]), name


def test_batches_have_every_option_as_a_column(tmp_path: Path) -> None:
    assert (
        set(COLUMNS) == {"portrait", "speech", "text", "driving", "output"} | options_of(VideoOptions).keys()
    )
    (tmp_path / "jobs.jsonl").write_text('{"portrait": "a.jpg", "speech": "b.wav"}')
    (row,) = read_jobs(tmp_path / "jobs.jsonl")
    assert row.job is not None and row.job.options == VideoOptions()


def test_a_driven_row_has_the_options_that_apply_to_it(tmp_path: Path) -> None:
    assert options_of(DriveOptions).keys() < options_of(VideoOptions).keys()
    rows = [{}, {"fps": 30, "size_px": "256"}, {"preset": "calm"}, {"transcript": "no"}, {"speech": "b.wav"}]
    given = {"portrait": "a.jpg", "driving": "b.mp4"}
    (tmp_path / "jobs.jsonl").write_text("\n".join(json.dumps({**given, **row}) for row in rows))
    # Defaults for other rows, such as a preset, do not concern it.
    plain, chosen, *wrong = read_jobs(tmp_path / "jobs.jsonl", preset="manic", mark=False)
    assert plain.job is not None and plain.job.driving == str(tmp_path / "b.mp4")
    assert plain.job.options == DriveOptions(mark=False)
    assert plain.job.output == "0001-a-b.mp4"
    assert chosen.job is not None
    assert chosen.job.options == DriveOptions(mark=False, fps=Fraction(30), size_px=256)
    for row, word in zip(wrong, ("preset has no effect", "transcript has no effect", "either"), strict=True):
        assert word in row.problem
    (tmp_path / "jobs.jsonl").write_text('{"portrait": "a.jpg", "speech": "b.wav", "region": "lips"}')
    (spoken,) = read_jobs(tmp_path / "jobs.jsonl")
    assert "region has no effect without a driving video" in spoken.problem
    (tmp_path / "jobs.jsonl").write_text('{"portrait": "a.jpg", "speech": "b.wav"}')
    (spoken,) = read_jobs(tmp_path / "jobs.jsonl", region="lips")  # for rows that a video drives
    assert spoken.job is not None


def test_the_server_has_every_option_as_a_field() -> None:
    schema = pytest.importorskip("vortex.server.schema", reason="the extra 'server' is not installed")
    models = (
        (schema.VideoRequest, VideoOptions),
        (schema.LiveRequest, LiveOptions),
        (schema.PortraitRequest, PortraitOptions),
    )
    for model, group in models:
        fields = model.model_json_schema()["properties"]
        assert options_of(group).keys() <= fields.keys()
        for name, option in options_of(group).items():
            field = fields[name]
            assert field.get("default") == default_of(group, name), name
            choices = field.get("anyOf", [field])
            limits = {key: value for choice in choices for key, value in choice.items()}
            assert limits.get("minimum") == option.minimum, name
            assert limits.get("maximum") == option.maximum, name
            assert limits.get("multipleOf") == option.multiple_of, name
            assert limits.get("maxLength") == option.max_length, name


@dataclass(frozen=True)
class Bad:
    """An option with a value that it refuses, and a part of the message."""

    name: str
    value: Any
    message: str


BAD = [
    Bad("engine", "oil", "Unknown engine 'oil'"),
    Bad("preset", "furious", "Unknown preset 'furious'"),
    Bad("preset", "neutral,calm", "Cannot read preset 'calm'"),
    Bad("fps", "0", "vortex renders 1 to 120"),
    Bad("fps", "1e9", "give a number such as 24"),
    Bad("size_px", 511, "size_px is 511; give an even whole number from 128 to 2048 px"),
    Bad("size_px", 126, "from 128"),
    Bad("size_px", 2050, "to 2048"),
    Bad("seed", -1, "seed is -1; give a whole number from 0"),
    Bad("seed", 2**31, "to 2147483647"),
    Bad("duration_s", 0, "duration_s is 0; give a number from 0.001 to 14400 s"),
    Bad("duration_s", 14_401, "to 14400"),
    Bad("speed", 0.4, "speed is 0.4; give a number from 0.5 to 2"),
    Bad("speed", 2.1, "to 2"),
    Bad("speech_engine", "parrot", "Unknown speech engine 'parrot'"),
    Bad("audio_motion", "mime", "Unknown audio_motion 'mime'; vortex has visemes, joyvasa"),
    Bad("audio_motion_region", "nose", "give one of lips, face, all"),
    Bad("aspect", "2:1", "aspect is '2:1'; give 1:1, 9:16, 16:9, 4:5, or a size"),
    Bad("zoom", 5, "zoom is 5; give a number from 0.2 to 4"),
    Bad("position", "left", "position is 'left'; give x,y of the face"),
    Bad("background", "beach", "background is 'beach'; give keep, blur, none, a colour"),
    Bad("crf", 52, "crf is 52; give a whole number from 0 to 51"),
    Bad("region", "nose", "region is 'nose'; give one of all, expression, pose, lips, eyes."),
    Bad("motion", "fast", "motion is 'fast'; give one of relative, absolute."),
    Bad("scaling", "none", "scaling is 'none'; give one of expression, pose."),
    Bad("multiplier", -0.1, "multiplier is -0.1; give a number from 0 to 3"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.name}={bad.value}")
def test_every_interface_refuses_a_bad_value_with_the_same_words(bad: Bad, tmp_path: Path) -> None:
    with pytest.raises(InputError) as python:
        VideoOptions.parse(**{bad.name: bad.value})
    assert bad.message in str(python.value)
    flag = "--" + bad.name.replace("_", "-")
    with pytest.raises(InputError) as line:
        parsed_options(command("batch", "jobs.csv", "--out", "d", flag, str(bad.value)), VideoOptions)
    assert bad.message in str(line.value)
    row = {"portrait": "a.jpg", "speech": "b.wav", bad.name: bad.value}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(row))
    (read,) = read_jobs(tmp_path / "jobs.jsonl")
    assert bad.message in read.problem


def numbers() -> list[tuple[type[OptionGroup], str]]:
    groups = (VideoOptions, DriveOptions, LiveOptions, GenerateOptions)
    return [(group, n) for group in groups for n, o in options_of(group).items() if o.minimum is not None]


@pytest.mark.parametrize(("group", "name"), numbers())
def test_limits_are_inclusive_and_hold_for_text_and_numbers(group: type[OptionGroup], name: str) -> None:
    option = options_of(group)[name]
    assert option.minimum is not None and option.maximum is not None
    step = option.multiple_of or (1 if option.kind == "whole" else 0.0001)
    for limit, beyond in ((option.minimum, option.minimum - step), (option.maximum, option.maximum + step)):
        exact = int(limit) if option.kind == "whole" else limit
        assert getattr(group.parse(**{name: exact}), name) == exact
        assert getattr(group.parse(**{name: str(exact)}), name) == exact
        with pytest.raises(InputError, match=name):
            group.parse(**{name: beyond})


@pytest.mark.parametrize("group", GROUPS)
def test_json_holds_every_option_and_gives_it_back(group: type[OptionGroup]) -> None:
    given: Mapping[str, Any] = {
        "preset": [("calm", 0), ("manic", 2.5)],
        "fps": 29.97,
        "seed": 7,
        "mark": "no",
        "transcript": "good morning",
        "speed": "1.25",
    }
    parsed = group.parse(**{name: value for name, value in given.items() if name in options_of(group)})
    assert group.parse(**json.loads(json.dumps(parsed.as_json()))) == parsed


def test_values_are_exact_and_parsed_once() -> None:
    parsed = RenderOptions.parse(fps="30000/1001", preset=" neutral , excited@3.5 ", size_px="256")
    assert parsed.fps == Fraction(30000, 1001)
    assert parsed.preset == PresetTrack(("neutral", "excited"), (0.0, 3.5))
    assert parsed.size_px == 256
    assert (
        RenderOptions.parse(**{name: getattr(parsed, name) for name in options_of(RenderOptions)}) == parsed
    )


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"Unknown option 'colour'; known are .*size_px"):
        RenderOptions.parse(colour="red")


def test_flags_are_accepted_in_every_spelling() -> None:
    for text, value in (
        ("true", True),
        ("yes", True),
        ("1", True),
        ("false", False),
        ("no", False),
        (0, False),
    ):
        assert RenderOptions.parse(paste_back=text).paste_back is value
    with pytest.raises(InputError, match="give true or false"):
        RenderOptions.parse(paste_back="perhaps")
    assert parsed_options(command("demo", "--no-mark", "--paste-back"), RenderOptions) == RenderOptions.parse(
        mark=False, paste_back=True
    )


def test_force_face_is_a_keyword_of_load_portrait_and_force_is_another_option() -> None:
    both = command("demo", "--force-f", "--force")
    assert parsed_options(both, FaceOptions).force_face and parsed_options(both, OutputOptions).force
    assert not parsed_options(command("demo", "--force"), FaceOptions).force_face
    shown = inspect.signature(vortex.load_portrait).parameters["force_face"]
    assert shown.default is default_of(PortraitOptions, "force_face")


def test_a_seed_is_drawn_once_and_kept() -> None:
    drawn = RenderOptions().with_seed()
    assert drawn.seed is not None and 0 <= drawn.seed < 2**31
    assert drawn.with_seed() is drawn
    assert len({RenderOptions().with_seed().seed for _ in range(20)}) > 15
