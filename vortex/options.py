"""The one definition of the options: every interface takes names, defaults, limits and help from here.

The interfaces are the flags of the command line, the keywords of the Python functions, the columns of a batch
list and the fields of the server's requests. Each class below is a frozen group of options; ``parse`` turns
what an interface received, text or Python values, into exact values once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from vortex.audio_motion.base import REGIONS as AUDIO_MOTION_REGIONS
from vortex.audio_motion.registry import AUDIO_MOTION_NAMES, VISEMES, check_audio_motion
from vortex.captions.files import CAPTION_KINDS, NONE, parse_captions
from vortex.engines.registry import AUTO, find_engine
from vortex.errors import InputError
from vortex.face.choice import LARGEST, PLACES, parse_face
from vortex.face.framing import ASPECTS, parse_aspect, parse_position
from vortex.media.background import Background
from vortex.motion.presets import MAX_STRENGTH, PRESETS, PresetLike, PresetTrack
from vortex.motion.transfer import MOTIONS, REGIONS, SCALINGS, MotionTransfer
from vortex.speech.base import DEFAULT_VOICE, PAUSE_RANGE, SPEED_RANGE
from vortex.speech.registry import find_speech_engine
from vortex.types import DEFAULT_SAMPLE_RATE_HZ, MAX_DURATION_S, MAX_OFFSET_FRAMES, parse_fps

if TYPE_CHECKING:
    from typing import Self

MAX_SEED = 2**31 - 1
CUT, CLOSED = "cut", "closed"
"""What is shown of a clip after the speech: nothing, or all of it with closed lips."""

Function = TypeVar("Function", bound=Callable[..., Any])
Options = TypeVar("Options", bound="OptionGroup")


@dataclass(frozen=True, slots=True)
class Option:
    """What every interface needs to know of one option.

    Args:
        kind: how an interface writes it: text, a whole number, a number, or a flag (true or false).
        help: one line for people, without the default.
        convert: turns a text, or an exact value, into the exact value; raises InputError.
        minimum, maximum, multiple_of: limits of numbers, inclusive.
        max_length: most characters of a text.
        metavar: what stands for the value in ``--help``.
        examples: values that a reader can try.
    """

    kind: Literal["text", "whole", "number", "flag"]
    help: str
    convert: Callable[[Any], Any] = str
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    max_length: int | None = None
    metavar: str | None = None
    examples: tuple[str, ...] = ()

    def parse(self, name: str, value: Any) -> Any:
        """Return the exact value of the option ``name``.

        Raises:
            InputError: the option does not accept the value.
        """
        if self.kind == "flag":
            text = str(value).strip().lower()
            if text not in ("true", "yes", "1", "false", "no", "0"):
                raise InputError(f"{name} is {str(value)[:40]!r}; give true or false.")
            return text in ("true", "yes", "1")
        if self.kind != "text":
            return self._parse_number(name, value)
        if self.max_length is not None and isinstance(value, str) and len(value) > self.max_length:
            raise InputError(f"{name} has {len(value)} characters; at most {self.max_length} are accepted.")
        return self.convert(value)

    def _parse_number(self, name: str, value: Any) -> float:
        whole = self.kind == "whole"
        what = f"{'an even' if self.multiple_of == 2 else 'a'} {'whole ' if whole else ''}number"
        assert self.minimum is not None and self.maximum is not None
        unit = {"px": " px", "s": " s", "hz": " Hz", "gb": " GB"}.get(name.rsplit("_", 1)[-1], "")
        accepted = f"give {what} from {self.minimum:.10g} to {self.maximum:.10g}{unit}"
        try:
            if isinstance(value, bool) or (whole and isinstance(value, float) and not value.is_integer()):
                raise ValueError
            exact = int(value) if whole else float(value)
        except (TypeError, ValueError, OverflowError) as exc:
            raise InputError(f"{name} is {str(value)[:40]!r}; {accepted}.") from exc
        if not self.minimum <= exact <= self.maximum or (self.multiple_of and exact % self.multiple_of):
            raise InputError(f"{name} is {exact:.10g}; {accepted}.")
        return exact


def _option(default: Any, kind: Any, help: str, convert: Callable[[Any], Any] = str, **more: Any) -> Any:
    """Return a dataclass field of an option; ``default`` is its exact value, as ``convert`` returns it.

    The default is not converted here: to look up its engine would import every engine with this module.
    """
    return field(default=default, metadata={"option": Option(kind, help, convert, **more)})


def _seconds(default: float | None, help: str) -> Any:
    return _option(default, "number", help, minimum=0.001, maximum=7 * 86_400.0, metavar="S")


def _preset() -> Any:
    choices = (
        f"{', '.join(PRESETS)}, or with a strength from 0 to {MAX_STRENGTH:g}, such as excited:1.5; or a "
        "sequence with start times in seconds"
    )
    examples = ("neutral", "excited:0.5", "neutral,excited@3.5")
    default = PresetTrack.parse("neutral")
    return _option(
        default, "text", choices, PresetTrack.parse, max_length=500, metavar="NAMES", examples=examples
    )


def _fps(default: Fraction | None, more: str = "") -> Any:
    help = f"frames per second, exact, 1 to 120{more}"
    examples = ("24", "30000/1001")
    return _option(default, "text", help, parse_fps, max_length=32, metavar="RATE", examples=examples)


def _duration(of: str) -> Any:
    help = f"seconds of video; default, the length of the {of}"
    return _option(None, "number", help, minimum=0.001, maximum=MAX_DURATION_S, metavar="S")


def _mark() -> Any:
    return _option(True, "flag", "write into the file that it is synthetic")


def _transcript(purpose: str) -> Any:
    help = f"the English words spoken, {purpose}"
    return _option(None, "text", help, lambda text: text or None, max_length=100_000, metavar="TEXT")


def _choice(name: str, default: str, choices: tuple[str, ...], help: str) -> Any:
    def convert(value: Any) -> Any:
        if value not in choices:
            raise InputError(f"{name} is {str(value)[:40]!r}; give one of {', '.join(choices)}.")
        return value

    return _option(default, "text", help, convert, max_length=20, metavar="NAME", examples=choices)


def _max_offset() -> Any:
    help = "offset of the lips that still passes, in frames"
    return _option(MAX_OFFSET_FRAMES, "number", help, minimum=0.0, maximum=100.0, metavar="N")


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Base of the groups."""

    @classmethod
    def parse(cls, **given: Any) -> Self:
        """Return exact options from text or Python values; None and a missing option take the default.

        Raises:
            InputError: an unknown option, or a value that its option does not accept.
        """
        known = options_of(cls)
        unknown = sorted(given.keys() - known.keys())
        if unknown:
            raise InputError(f"Unknown option {unknown[0]!r}; known are {', '.join(known)}.")
        return cls(**{n: known[n].parse(n, value) for n, value in given.items() if value is not None})

    def as_json(self) -> dict[str, Any]:
        """Return every option as a value that JSON can hold and :meth:`parse` reads."""
        return {name: _as_json(getattr(self, name)) for name in options_of(type(self))}

    def part(self, group: type[Options]) -> Options:
        """Return the options of a group that this one includes."""
        return group(**{name: getattr(self, name) for name in options_of(group)})


def options_of(group: type[OptionGroup]) -> Mapping[str, Option]:
    """Return the options of a group by name, in the order in which interfaces show them."""
    return {entry.name: entry.metadata["option"] for entry in fields(group)}


def check_drives(given: Iterable[str]) -> None:
    """Raise InputError if there is an option of other videos among those ``given`` for a driven one."""
    known = options_of(DriveOptions)
    wrong = sorted(name for name in given if name not in known and name in options_of(VideoOptions))
    if wrong:
        raise InputError(
            f"{wrong[0]} has no effect on a portrait that a video drives; leave it out. "
            f"Known are {', '.join(known)}."
        )


def check_speaks(given: Iterable[str]) -> None:
    """Raise InputError if there is an option of driven videos among those ``given`` for a spoken one."""
    known = options_of(SpeakOptions).keys() | options_of(AnimateOptions).keys()
    wrong = sorted(name for name in given if name not in known and name in options_of(VideoOptions))
    if wrong:
        raise InputError(f"{wrong[0]} has no effect without a driving video or picture; leave it out.")


def default_of(group: type[OptionGroup], name: str) -> Any:
    """Return the default of an option as a value that JSON can hold; None if there is none."""
    return _as_json(next(entry.default for entry in fields(group) if entry.name == name))


def _as_json(value: Any) -> Any:
    return str(value) if isinstance(value, Fraction | PresetTrack | Background) else value


def accepts(group: type[OptionGroup]) -> Callable[[Function], Function]:
    """Return a decorator that shows a group's options in a function's signature and docstring.

    The function takes them as ``**options``; the line "**options: see below." of its docstring is replaced.
    """

    def decorate(function: Function) -> Function:
        shown = signature(function)
        given = [p for p in shown.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        types = globals()[group.__name__.replace("Options", "Keywords")].__annotations__
        made = [
            Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                default=default_of(group, name),
                annotation=types[name].__forward_arg__,
            )
            for name in options_of(group)
        ]
        function.__signature__ = shown.replace(parameters=[*given, *made])  # type: ignore[attr-defined]
        lines = [f"        {name}: {option.help}.\n" for name, option in options_of(group).items()]
        text = function.__doc__ or ""
        function.__doc__ = text.replace("        **options: see below.\n", "".join(lines))
        return function

    return decorate


@dataclass(frozen=True, kw_only=True)
class OutputOptions(OptionGroup):
    """What happens where a file is written; servers choose the names of their files themselves."""

    force: bool = _option(False, "flag", "replace a file that is there already; never one that is an input")


@dataclass(frozen=True, kw_only=True)
class EngineOptions(OptionGroup):
    """Which engine renders, where, and how well."""

    engine: str = _option(
        "mesh", "text", "mesh, liveportrait, or auto: the best engine that can run here",
        lambda name: name if name == AUTO else find_engine(name).name, metavar="NAME",
    )  # fmt: skip
    device: str | None = _option(
        None, "text", "where the engine renders, such as cuda or cpu; default, the engine's own choice",
        metavar="NAME",
    )  # fmt: skip
    quality: str = _option(
        "full", "text", "full, or for liveportrait fast: render similar frames once", metavar="NAME"
    )


@dataclass(frozen=True, kw_only=True)
class PortraitOptions(OptionGroup):
    """Which pictures are accepted."""

    force_face: bool = _option(
        False, "flag", "animate also a face that looks covered, blurred or not human, such as an animal's"
    )
    face: str = _option(
        LARGEST, "text",
        "which of several faces: largest, left, middle, right, or a number from left to right",
        parse_face, max_length=10, metavar="WHICH", examples=(*PLACES, "2"),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FrameOptions(PortraitOptions, EngineOptions):
    """What a frame shows of a portrait, and how large."""

    size_px: int = _option(
        512, "whole", "side of the square video in pixels, even", minimum=128, maximum=2048, multiple_of=2,
        metavar="PX",
    )  # fmt: skip
    paste_back: bool = _option(False, "flag", "animate the face inside the whole picture, at its own size")


@dataclass(frozen=True, kw_only=True)
class FaceOptions(FrameOptions):
    """How a face looks and moves that follows a voice."""

    preset: PresetTrack = _preset()
    fps: Fraction = _fps(Fraction(24))
    seed: int | None = _option(
        None, "whole", "decides blinks, glances and sway; default, a new one each time", minimum=0,
        maximum=MAX_SEED, metavar="N",
    )  # fmt: skip

    def with_seed(self) -> Self:
        """Return the options with a seed: the given one, or a new random one."""
        return self if self.seed is not None else replace(self, seed=secrets.randbelow(MAX_SEED + 1))


@dataclass(frozen=True, kw_only=True)
class FramingOptions(OptionGroup):
    """What the frames of a video file show around the face."""

    aspect: str | None = _option(
        None, "text",
        f"shape of the video: {', '.join(ASPECTS)}, with size_px as its shorter side; or a size: 1080x1920",
        parse_aspect, max_length=20, metavar="SHAPE", examples=("9:16", "1080x1920"),
    )  # fmt: skip
    zoom: float | None = _option(
        None, "number", "size of the face, at 1 1/2.3 of the shorter side; default, what the picture fills",
        minimum=0.2, maximum=4.0, metavar="X",
    )  # fmt: skip
    position: str | None = _option(
        None, "text", "x,y of the middle of the face in the frame, from 0 to 1; default, where it looks well",
        parse_position, max_length=40, metavar="X,Y", examples=("0.5,0.4",),
    )  # fmt: skip
    background: Background = _option(
        Background("keep"), "text",
        "behind the person: keep, blur, none (transparent), a colour, or the path of a picture",
        Background.parse, max_length=4096, metavar="WHAT", examples=("blur", "#1e90ff", "none"),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EncodingOptions(OptionGroup):
    """How the pictures of a video file are compressed."""

    crf: int | None = _option(
        None, "whole", "constant quality of MP4 and WebM: lower is better; default 17 of MP4, 24 of WebM",
        minimum=0, maximum=51, metavar="N",
    )  # fmt: skip
    bitrate_kbps: int | None = _option(
        None, "whole", "average bits of the pictures of MP4 and WebM, in thousands a second, instead of crf",
        minimum=50, maximum=200_000, metavar="KBPS",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RenderOptions(EncodingOptions, FramingOptions, FaceOptions):
    """How a video file is made of a voice."""

    duration_s: float | None = _duration("speech")
    audio_motion: str = _option(
        VISEMES, "text",
        "what moves the mouth: visemes, or the model joyvasa, which needs the extra neural and weights",
        check_audio_motion, max_length=50, metavar="NAME", examples=AUDIO_MOTION_NAMES,
    )  # fmt: skip
    audio_motion_region: str = _choice(
        "audio_motion_region", AUDIO_MOTION_REGIONS[0], AUDIO_MOTION_REGIONS,
        "what a learned model moves: lips; face, with brows and eyes; or all, with the head",
    )  # fmt: skip
    captions: str = _option(
        NONE, "text",
        f"none, or one or more of {', '.join(CAPTION_KINDS)}: files beside the video, or in its frames; for "
        "a sound, they need its transcript",
        parse_captions, max_length=40, metavar="KINDS", examples=("srt", "vtt,burn"),
    )  # fmt: skip
    mark: bool = _mark()


@dataclass(frozen=True, kw_only=True)
class ClipOptions(OptionGroup):
    """What is done with a video as the source, beside its mouth; they have no effect on a picture."""

    keep_sound_db: float | None = _option(
        None, "number", "a clip as the portrait: keep its own sound under the voice, at this level",
        minimum=-60.0, maximum=0.0, metavar="DB",
    )  # fmt: skip
    rest: str = _choice(
        "rest", CUT, (CUT, CLOSED),
        "a clip that goes on after the speech: cut, or closed: shown to its end with closed lips",
    )  # fmt: skip


def check_picture_options(options: OptionGroup) -> None:
    """Raise InputError if an option of :class:`ClipOptions` is set, which a picture does not have."""
    for name in options_of(ClipOptions):
        value = getattr(options, name)
        if value != default_of(ClipOptions, name):
            raise InputError(f"{name} is {value}, which has no effect on a picture; leave it out.")


@dataclass(frozen=True, kw_only=True)
class TransferOptions(OptionGroup):
    """What of a driver's motion a portrait takes over; see :class:`vortex.motion.transfer.MotionTransfer`."""

    region: str = _choice(
        "region", "all", REGIONS, "what moves as the driver does: all, expression (no head), pose, lips, eyes"
    )
    motion: str = _choice(
        "motion", "relative", MOTIONS,
        "relative: changes of the driver are added to the portrait's expression; absolute: its own are taken",
    )  # fmt: skip
    multiplier: float = _option(
        1.0, "number", "how far everything moves; 0 shows the portrait as it is", minimum=0.0, maximum=3.0,
        metavar="X",
    )  # fmt: skip
    scaling: str = _choice(
        "scaling", "expression", SCALINGS,
        "liveportrait, relative motion: expression fits its size to the portrait's face, pose does not",
    )  # fmt: skip
    eye_retarget: bool = _option(
        False,
        "flag",
        "liveportrait: open the eyes as far as the driver's; relative motion then moves no head",
    )
    lip_retarget: bool = _option(
        False,
        "flag",
        "liveportrait: open the lips as far as the driver's; relative motion then moves no head",
    )
    stitch: bool = _option(True, "flag", "liveportrait: keep shoulders and hair in their places")

    def transfer(self) -> MotionTransfer:
        """Return how motion is taken over; the multiplier belongs to the frames."""
        return MotionTransfer(
            self.region, self.motion, self.scaling, self.eye_retarget, self.lip_retarget, self.stitch
        )


@dataclass(frozen=True, kw_only=True)
class DriveOptions(TransferOptions, EncodingOptions, FramingOptions, FrameOptions):
    """How a video is made that moves as the face in another one, in a picture or in a motion template."""

    fps: Fraction | None = _fps(None, "; default, the rate of the driving video, 24 of a picture")
    duration_s: float | None = _duration("driving video, 3 of a picture")
    mark: bool = _mark()


@dataclass(frozen=True, kw_only=True)
class CaptureOptions(OptionGroup):
    """How a motion template is made of a driver."""

    engine: str = _option(
        "liveportrait", "text", "an engine that captures: liveportrait", lambda name: find_engine(name).name,
        metavar="NAME",
    )  # fmt: skip
    device: str | None = _option(
        None, "text", "where the engine computes, such as cuda or cpu; default, the engine's own choice",
        metavar="NAME",
    )  # fmt: skip
    duration_s: float | None = _duration("driving video")


@dataclass(frozen=True, kw_only=True)
class AnimateOptions(RenderOptions, ClipOptions):
    """How a video of a given sound is made."""

    transcript: str | None = _transcript("for better synchrony")


@dataclass(frozen=True, kw_only=True)
class SpeechOptions(OptionGroup):
    """How a text is spoken."""

    voice: str = _option(
        DEFAULT_VOICE, "text", "who speaks a text; see vortex voices", max_length=50, metavar="NAME"
    )
    speed: float = _option(
        1.0, "number", "how fast a text is spoken, 0.5 (slow) to 2 (fast)", minimum=SPEED_RANGE[0],
        maximum=SPEED_RANGE[1], metavar="X",
    )  # fmt: skip
    pause: float = _option(
        1.0, "number", "how long pauses between sentences are, in times of the normal ones",
        minimum=PAUSE_RANGE[0], maximum=PAUSE_RANGE[1], metavar="X",
    )  # fmt: skip
    speech_engine: str = _option(
        "kokoro", "text", "kokoro or kokoro-fp32", lambda name: find_speech_engine(name).name, max_length=50,
        metavar="NAME",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SayOptions(SpeechOptions):
    """How a text becomes a sound."""

    preset: PresetTrack = _preset()
    preview: bool = _option(
        False, "flag", "speak only the first sentence, or its beginning, to hear a voice soon"
    )


@dataclass(frozen=True, kw_only=True)
class SpeakOptions(RenderOptions, SpeechOptions, ClipOptions):
    """How a video of a text is made."""


@dataclass(frozen=True, kw_only=True)
class VideoOptions(AnimateOptions, SpeakOptions, TransferOptions):
    """How a video of a sound, a text or a driver is made: the options of a batch row and a server's job."""


@dataclass(frozen=True, kw_only=True)
class LiveOptions(FaceOptions):
    """How a live face looks, moves and listens."""

    sample_rate_hz: int = _option(
        DEFAULT_SAMPLE_RATE_HZ, "whole", "sample rate of the sound that is pushed, in Hz", minimum=8_000,
        maximum=192_000, metavar="HZ",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CheckOptions(OptionGroup):
    """How the lip-sync of a finished video is measured and judged."""

    transcript: str | None = _transcript("for exact closures")
    max_offset_frames: float = _max_offset()


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(RenderOptions, SpeechOptions):
    """How a video is made from a text and a prompt, and verified."""

    prompt: str | None = _option(
        None, "text", "the portrait to draw, such as: an old sailor, oil painting", max_length=5000,
        metavar="TEXT",
    )  # fmt: skip
    verify_prompt: bool = _option(True, "flag", "compare the picture with the prompt, by CLIP")
    verify_lips: bool = _option(True, "flag", "measure the lip-sync of the video")
    max_offset_frames: float = _max_offset()
    min_clip_score: float = _option(
        0.2, "number", "least CLIP score that passes", minimum=-1.0, maximum=1.0, metavar="X"
    )
    min_clip_likeness: float = _option(
        0.75, "number", "CLIP likeness below which a keyframe is an outlier", minimum=-1.0, maximum=1.0,
        metavar="X",
    )  # fmt: skip
    deadline_s: float | None = _seconds(None, "seconds for everything; default, no limit")
    speech_timeout_s: float = _seconds(600.0, "seconds for the speech")
    image_timeout_s: float = _seconds(900.0, "seconds for the picture")
    verify_timeout_s: float = _seconds(600.0, "seconds for each verification")
    memory_gb: float | None = _option(
        None, "number", "memory for models in GB; default, most of what is free", minimum=0.01,
        maximum=10_000.0, metavar="GB",
    )  # fmt: skip
    image_model: str | None = _option(
        None, "text", "folder of another Flux pipeline, in the layout of diffusers", max_length=4096,
        metavar="FOLDER",
    )  # fmt: skip
    image_device: str = _option(
        "cuda", "text", "where pictures are drawn: cuda or cpu", max_length=20, metavar="NAME"
    )
    clip_models: str | None = _option(
        None, "text", "folders of two other CLIP models, with a comma between", max_length=8192,
        metavar="B32,L14",
    )  # fmt: skip


# What the Python functions accept as keywords, for type checkers; a test holds these equal to the groups
# above.


class EngineKeywords(TypedDict, total=False):
    """Keywords of :class:`EngineOptions`."""

    engine: str
    device: str | None
    quality: str


class PortraitKeywords(TypedDict, total=False):
    """Keywords of :class:`PortraitOptions`."""

    force_face: bool
    face: str


class FrameKeywords(PortraitKeywords, EngineKeywords, total=False):
    """Keywords of :class:`FrameOptions`."""

    size_px: int
    paste_back: bool


class FaceKeywords(FrameKeywords, total=False):
    """Keywords of :class:`FaceOptions`."""

    preset: PresetLike
    fps: float | str | Fraction
    seed: int | None


class FramingKeywords(TypedDict, total=False):
    """Keywords of :class:`FramingOptions`."""

    aspect: str | None
    zoom: float | None
    position: str | None
    background: str | Background


class EncodingKeywords(TypedDict, total=False):
    """Keywords of :class:`EncodingOptions`."""

    crf: int | None
    bitrate_kbps: int | None


class RenderKeywords(EncodingKeywords, FramingKeywords, FaceKeywords, total=False):
    """Keywords of :class:`RenderOptions`."""

    duration_s: float | None
    audio_motion: str
    audio_motion_region: str
    captions: str
    mark: bool


class ClipKeywords(TypedDict, total=False):
    """Keywords of :class:`ClipOptions`."""

    keep_sound_db: float | None
    rest: str


class TransferKeywords(TypedDict, total=False):
    """Keywords of :class:`TransferOptions`."""

    region: str
    motion: str
    multiplier: float
    scaling: str
    eye_retarget: bool
    lip_retarget: bool
    stitch: bool


class DriveKeywords(TransferKeywords, EncodingKeywords, FramingKeywords, FrameKeywords, total=False):
    """Keywords of :class:`DriveOptions`."""

    fps: float | str | Fraction | None
    duration_s: float | None
    mark: bool


class CaptureKeywords(TypedDict, total=False):
    """Keywords of :class:`CaptureOptions`."""

    engine: str
    device: str | None
    duration_s: float | None


class AnimateKeywords(RenderKeywords, ClipKeywords, total=False):
    """Keywords of :class:`AnimateOptions`."""

    transcript: str | None


class SpeechKeywords(TypedDict, total=False):
    """Keywords of :class:`SpeechOptions`."""

    voice: str
    speed: float
    pause: float
    speech_engine: str


class SayKeywords(SpeechKeywords, total=False):
    """Keywords of :class:`SayOptions`."""

    preset: PresetLike
    preview: bool


class SpeakKeywords(RenderKeywords, SpeechKeywords, ClipKeywords, total=False):
    """Keywords of :class:`SpeakOptions`."""


class VideoKeywords(AnimateKeywords, SpeakKeywords, TransferKeywords, total=False):
    """Keywords of :class:`VideoOptions`."""


class LiveKeywords(FaceKeywords, total=False):
    """Keywords of :class:`LiveOptions`."""

    sample_rate_hz: int


class CheckKeywords(TypedDict, total=False):
    """Keywords of :class:`CheckOptions`."""

    transcript: str | None
    max_offset_frames: float


class GenerateKeywords(RenderKeywords, SpeechKeywords, total=False):
    """Keywords of :class:`GenerateOptions`."""

    prompt: str | None
    verify_prompt: bool
    verify_lips: bool
    max_offset_frames: float
    min_clip_score: float
    min_clip_likeness: float
    deadline_s: float | None
    speech_timeout_s: float
    image_timeout_s: float
    verify_timeout_s: float
    memory_gb: float | None
    image_model: str | None
    image_device: str
    clip_models: str | None
