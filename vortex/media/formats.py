"""The file formats that are read, one row each: first bytes, and the only decoders that may read them.

A decoder that is not named here reads nothing: Pillow would also run PostScript, and FFmpeg would also follow
playlists to other files and hosts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer

HEAD_BYTES = 64
"""How much of the beginning of a file tells its format."""

Start = tuple[tuple[int, bytes], ...]
"""Bytes at offsets; a file of the format has all of them."""


@dataclass(frozen=True, slots=True)
class Format:
    """One file format: its ``name`` for messages, and the ``decoder`` that reads it.

    A file begins in one of the ways ``starts``. ``decoder`` is what Pillow calls a picture's format, or
    FFmpeg a demuxer. ``uploads``: a server takes it from strangers.
    """

    name: str
    decoder: str
    starts: tuple[Start, ...]
    uploads: bool = False


def _at(offset: int, *starts: bytes) -> tuple[Start, ...]:
    return tuple(((offset, start),) for start in starts)


def _riff(kind: bytes, *containers: bytes) -> tuple[Start, ...]:
    return tuple(((0, container), (8, kind)) for container in containers or (b"RIFF",))


PICTURES: tuple[Format, ...] = (
    Format("JPEG", "JPEG", _at(0, b"\xff\xd8\xff"), uploads=True),
    Format("PNG", "PNG", _at(0, b"\x89PNG\r\n\x1a\n"), uploads=True),
    Format("WebP", "WEBP", _riff(b"WEBP"), uploads=True),
    Format("TIFF", "TIFF", _at(0, b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    Format("BMP", "BMP", _at(0, b"BM")),
    Format("GIF", "GIF", _at(0, b"GIF87a", b"GIF89a")),
    Format("AVIF", "AVIF", _at(4, b"ftypavif", b"ftypavis")),
    Format("JPEG 2000", "JPEG2000", _at(0, b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    Format("PPM", "PPM", _at(0, *(b"P%d" % kind for kind in range(1, 7)))),
)
"""Pictures, which Pillow reads."""

_MPEG_FRAMES = tuple(bytes([0xFF, second]) for second in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2))
_ADTS_FRAMES = tuple(bytes([0xFF, second]) for second in (0xF1, 0xF0, 0xF9, 0xF8))

SOUNDS: tuple[Format, ...] = (
    Format("WAV", "wav", _riff(b"WAVE", b"RIFF", b"RF64", b"BW64"), uploads=True),
    Format("FLAC", "flac", _at(0, b"fLaC"), uploads=True),
    # Other formats may begin with this tag, too: FFmpeg looks behind it.
    Format("MP3", "mp3", _at(0, b"ID3", *_MPEG_FRAMES), uploads=True),
    Format("AAC", "aac", _at(0, *_ADTS_FRAMES), uploads=True),
    Format("OGG", "ogg", _at(0, b"OggS"), uploads=True),
    Format("AIFF", "aiff", (((0, b"FORM"), (8, b"AIFF")), ((0, b"FORM"), (8, b"AIFC"))), uploads=True),
    Format("W64", "w64", _at(0, b"riff\x2e\x91\xcf\x11")),
    Format("CAF", "caf", _at(0, b"caff")),
    Format("AU", "au", _at(0, b".snd")),
    Format("AMR", "amr", _at(0, b"#!AMR")),
    Format("WavPack", "wv", _at(0, b"wvpk")),
)
"""Files that hold only sound, which FFmpeg reads."""

VIDEOS: tuple[Format, ...] = (
    Format("MP4", "mov,mp4,m4a,3gp,3g2,mj2", _at(4, b"ftyp"), uploads=True),
    Format("WebM", "matroska,webm", _at(0, b"\x1aE\xdf\xa3"), uploads=True),
    Format("MOV", "mov,mp4,m4a,3gp,3g2,mj2", _at(4, b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    Format("AVI", "avi", _riff(b"AVI ")),
    Format("WMV", "asf", _at(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
    Format("FLV", "flv", _at(0, b"FLV\x01")),
    Format("MPEG-TS", "mpegts", _at(0, b"G") + _at(4, b"G")),
    Format("MPEG", "mpeg", _at(0, b"\0\0\x01\xba")),
    Format("GIF", "gif", _at(0, b"GIF87a", b"GIF89a")),
)
"""Files that may hold sound and moving pictures, which FFmpeg reads."""

SOUND_CODECS = (
    "aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "libopus", "mp1", "mp1float", "mp2",
    "mp2float", "mp3", "mp3float", "opus", "libvorbis", "libspeex", "speex", "vorbis", "wavpack",
    "wmalossless", "wmapro", "wmav1", "wmav2", "dca", "truehd", "gsm", "gsm_ms", "libgsm", "libgsm_ms",
    "libopencore_amrnb", "libopencore_amrwb", "libfdk_aac", "pcm_alaw", "pcm_mulaw", "adpcm_ima_wav",
    "adpcm_ms", "adpcm_ima_qt", "adpcm_g722", "adpcm_g726",
    *(f"pcm_{kind}" for kind in ("s8", "u8", "s8_planar")),
    *(f"pcm_{kind}{end}" for kind in ("s16", "u16", "s24", "u24", "s32", "u32", "s64", "f32", "f64")
      for end in ("le", "be")),
    "pcm_s16le_planar", "pcm_s24le_planar", "pcm_s32le_planar", "pcm_s16be_planar",
)  # fmt: skip
"""FFmpeg's names of the decoders that may read sound."""

PICTURE_CODECS = (
    "av1", "libdav1d", "libaom-av1", "dnxhd", "dvvideo", "flv", "gif", "h263", "h264", "hevc", "mjpeg",
    "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "png", "prores", "ffv1", "theora", "vc1",
    "vp8", "libvpx", "vp9", "libvpx-vp9", "vvc", "wmv1", "wmv2", "wmv3", "rawvideo",
)  # fmt: skip
"""FFmpeg's names of the decoders that may read moving pictures."""


def format_of(head: bytes, formats: Iterable[Format]) -> Format | None:
    """Return the format of a file that begins with ``head``, HEAD_BYTES long; None for any other."""
    for known in formats:
        if any(all(head[at : at + len(part)] == part for at, part in start) for start in known.starts):
            return known
    return None


def is_heic(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is a HEIF picture, as iPhones write them."""
    brands = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
    return head[4:8] == b"ftyp" and head[8:12] in brands and b"avif" not in head


def open_media(file: str | os.PathLike[str] | IO[bytes]) -> InputContainer:
    """Open a sound or a video with the demuxers and decoders of this file's tables.

    A path is a file whatever its name is: ``http:`` or ``concat:`` in it stand for no protocol, and what the
    file refers to is not opened.

    Raises:
        av.error.FFmpegError: the file is none of the formats, or damaged.
    """
    import av

    demuxers = {name for known in (*SOUNDS, *VIDEOS) for name in known.decoder.split(",")}
    options = {
        "format_whitelist": ",".join(sorted(demuxers)),
        "codec_whitelist": ",".join((*SOUND_CODECS, *PICTURE_CODECS)),
        "protocol_whitelist": "file",
    }
    name = f"file:{Path(file)}" if isinstance(file, str | os.PathLike) else file
    return av.open(name, "r", metadata_errors="replace", options=options)
