"""The container formats of finished videos and the settings of their encoders, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from vortex.runtime.files import check_output_path

PIXEL_FORMAT = "yuv420p"
"""FFmpeg's name for 8-bit planes of Y, Cb and Cr, of which Cb and Cr have half the width and height."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container format: the ``suffix`` in lower case, the MIME type, and FFmpeg's names of its parts.

    ``video_encoders`` has the encoder for frames rendered on a "cpu", and optionally that for "cuda".
    """

    suffix: str
    media_type: str
    muxer: str
    video_encoders: Mapping[str, str]
    audio_encoder: str
    muxer_options: Mapping[str, str] = field(default_factory=dict)


CONTAINERS: tuple[Container, ...] = (
    Container(
        ".mp4",
        media_type="video/mp4",
        muxer="mp4",
        video_encoders={"cpu": "libx264", "cuda": "h264_nvenc"},
        audio_encoder="aac",
        # The header comes first, so that a video plays while it loads.
        muxer_options={"movflags": "+faststart"},
    ),
)
"""Every format that vortex writes. The first row is the default of the server and of batches."""

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
    "h264_nvenc": {"preset": "p4", "rc": "vbr", "cq": "19", "b": "0", "profile": "high"},
    # FFmpeg's slower search is no better at 128 kbit/s: its noise is 26 to 42 dB below speech, with this one
    # 42 to 46.
    "aac": {"b": "128000", "aac_coder": "fast"},
}
"""FFmpeg's name of an encoder -> its options, for constant quality of pictures. Others use their defaults."""


def container_of(path: Path) -> Container:
    """Return the container format of a file name that :func:`check_video_path` accepts."""
    return next(c for c in CONTAINERS if c.suffix == path.suffix.lower())


def check_video_path(path: Path) -> None:
    """Raise InputError if ``path`` has no suffix of :data:`CONTAINERS`, or no file can be written there."""
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
