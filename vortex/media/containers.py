"""The container formats of finished videos and the settings of their encoders, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from vortex.errors import InputError
from vortex.media.pixels import PIXEL_FORMAT
from vortex.runtime.files import check_output_path


@dataclass(frozen=True, slots=True)
class Container:
    """One container format: the ``suffix`` in lower case, the MIME type, and FFmpeg's names of its parts.

    ``video_encoders`` has the encoder for frames rendered on a "cpu", and optionally that for "cuda".
    ``audio_encoder`` is None in formats without sound. ``pixel_format`` is that of opaque frames,
    ``matted_format`` that of frames with a matte, None if there are none. ``max_fps``: it shows no more
    frames a second. ``ticks_hz``: its frames start at whole ticks of this rate, None at exact times.
    ``compresses``: crf and bitrate_kbps apply to it.
    """

    suffix: str
    media_type: str
    muxer: str
    video_encoders: Mapping[str, str]
    audio_encoder: str | None
    muxer_options: Mapping[str, str] = field(default_factory=dict)
    pixel_format: str = PIXEL_FORMAT
    matted_format: str | None = None
    max_fps: int = 120
    ticks_hz: int | None = None
    compresses: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.suffix.lstrip(".").upper() or "a stream of MP4"


CONTAINERS: tuple[Container, ...] = (
    Container(
        ".mp4",
        media_type="video/mp4",
        muxer="mp4",
        video_encoders={"cpu": "libx264", "cuda": "h264_nvenc"},
        audio_encoder="aac",
        # The header comes first, so that a video plays while it loads.
        muxer_options={"movflags": "+faststart"},
        compresses=True,
    ),
    Container(
        ".webm",
        media_type="video/webm",
        muxer="webm",
        video_encoders={"cpu": "libvpx-vp9"},
        audio_encoder="libopus",
        matted_format="yuva420p",
        compresses=True,
    ),
    Container(
        ".mov",
        media_type="video/quicktime",
        muxer="mov",
        video_encoders={"cpu": "prores_ks"},
        audio_encoder="pcm_s16le",
        pixel_format="yuv444p10le",
        matted_format="yuva444p10le",
    ),
    Container(
        ".gif",
        media_type="image/gif",
        muxer="gif",
        video_encoders={"cpu": "gif"},
        audio_encoder=None,
        pixel_format="pal8",
        matted_format="pal8",
        max_fps=50,  # browsers show shorter frames for 0.1 s
        ticks_hz=100,
    ),
    Container(
        ".webp",
        media_type="image/webp",
        muxer="webp",
        video_encoders={"cpu": "libwebp_anim"},
        audio_encoder=None,
        muxer_options={"loop": "0"},
        pixel_format="bgra",
        matted_format="bgra",
        ticks_hz=1000,
    ),
    Container(
        ".zip",
        media_type="application/zip",
        muxer="",
        video_encoders={"cpu": "png"},
        audio_encoder="pcm_s16le",
        pixel_format="rgb24",
        matted_format="rgba",
    ),
)
"""Every format that vortex writes. The first row is the default of the server and of batches. A .zip is no
container of FFmpeg: see :mod:`vortex.media.archive`."""

PIPE = Path("-")
"""The name of standard output."""
STREAM = replace(
    CONTAINERS[0], suffix="", muxer_options={"movflags": "+frag_keyframe+delay_moov+default_base_moof"}
)
"""What is written to a pipe: MP4 in fragments, which needs no going back."""

DEFAULT_CONTAINER = CONTAINERS[0]
SUFFIXES = tuple(container.suffix for container in CONTAINERS)

ENCODER_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "libx264": {
        "preset": "superfast",
        "crf": "17",
        "profile": "high",
        # With always three B-frames and no search for cuts, which a talking face has none of, x264 needs no
        # lookahead. With the preset's own choice, crf 19 gave this quality for a sixth more work and bytes.
        "x264-params": "b-adapt=0:scenecut=0",
    },
    # One thread more does not change the file; without tiles, VP9 uses few.
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    "prores_ks": {"profile": "4444", "vendor": "apl0", "alpha_bits": "16"},
    "libwebp_anim": {"quality": "80"},
    "h264_nvenc": {"preset": "p4", "rc": "vbr", "cq": "19", "b": "0", "profile": "high"},
    # FFmpeg's slower search is no better at 128 kbit/s: its noise is 26 to 42 dB below speech, with this one
    # 42 to 46.
    "aac": {"b": "128000", "aac_coder": "fast"},
}
"""FFmpeg's name of an encoder -> its options, for constant quality of pictures. Others use their defaults."""


@dataclass(frozen=True, slots=True)
class Compression:
    """How far pictures are compressed: to a constant quality ``crf``, or to ``bitrate_kbps``.

    None: by default.
    """

    crf: int | None = None
    bitrate_kbps: int | None = None


DEFAULT_COMPRESSION = Compression()


def encoder_options(encoder: str, compression: Compression) -> dict[str, str]:
    """Return FFmpeg's options of an encoder; :func:`check_format` says what applies to which."""
    options = dict(ENCODER_OPTIONS.get(encoder, {}))
    quality = "cq" if encoder == "h264_nvenc" else "crf"
    if compression.crf is not None:
        options[quality] = str(compression.crf)
    if compression.bitrate_kbps is not None:
        options.pop(quality, None)
        options["b"] = f"{compression.bitrate_kbps}k"
    return options


def check_format(path: Path, compression: Compression, *, transparent: bool) -> None:
    """Raise InputError if a file of this name cannot hold what is asked for; the name itself is accepted."""
    container = container_of(path)
    if compression.crf is not None and compression.bitrate_kbps is not None:
        raise InputError("crf and bitrate_kbps exclude each other; give one of them.")
    for name in ("crf", "bitrate_kbps"):
        if getattr(compression, name) is not None and not container.compresses:
            raise InputError(f"{name} has no effect on {container.name}; leave it out, or write MP4 or WebM.")
    if transparent and container.matted_format is None:
        able = ", ".join(c.suffix for c in CONTAINERS if c.matted_format)
        raise InputError(
            f"background is none, but {container.name} has no transparency; write one of {able}, "
            "or give another background."
        )


def check_rate(path: Path, fps: Fraction) -> None:
    """Raise InputError for more frames a second than the format of ``path`` can show."""
    container = container_of(path)
    if fps > container.max_fps:
        raise InputError(
            f"fps is {fps}, but {container.name} shows at most {container.max_fps}; give a lower fps."
        )


def container_of(path: Path) -> Container:
    """Return the container format of a file name that :func:`check_video_path` accepts."""
    if path == PIPE:
        return STREAM
    return next(c for c in CONTAINERS if c.suffix == path.suffix.lower())


def check_video_path(path: Path) -> None:
    """Raise InputError if ``path`` has no suffix of :data:`CONTAINERS`, or no file can be written there.

    ``-`` is standard output.
    """
    if path != PIPE:
        check_output_path(path, SUFFIXES, "Output")


def choose_video_encoder(container: Container, device: str) -> str:
    """Return the name of the video encoder for frames rendered on ``device``, such as "cpu" or "cuda:0".

    A GPU that renders also encodes if NVENC works, which leaves the CPU free; a CPU always gets the same one.
    """
    encoder = container.video_encoders.get(device.split(":")[0], container.video_encoders["cpu"])
    return container.video_encoders["cpu"] if encoder.endswith("_nvenc") and not nvenc_works() else encoder


@lru_cache(maxsize=1)
def nvenc_works() -> bool:
    """Return whether NVENC can encode a frame here: FFmpeg lists it also where there is no GPU."""
    import av

    try:
        context = av.CodecContext.create("h264_nvenc", "w")
        context.width, context.height, context.pix_fmt = 256, 256, PIXEL_FORMAT
        context.time_base = Fraction(1, 24)
        frame = av.VideoFrame(256, 256, PIXEL_FORMAT)
        frame.pts = 0
        return bool(context.encode(frame) + context.encode(None))
    except (OSError, ValueError, av.error.FFmpegError):
        # This build of FFmpeg lacks it, there is no driver, or the GPU has no free session.
        return False
