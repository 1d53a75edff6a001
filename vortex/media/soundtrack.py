"""Sound tracks of files: frames decoded, placed by their time stamps, mixed to mono, at one sample rate."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from vortex.errors import AudioError
from vortex.media.downmix import Downmixer, StereoMixer
from vortex.media.formats import SOUND_CODECS, VIDEOS, open_media
from vortex.types import F32

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
"""FFmpeg's name of the format of MP4 and MOV."""
TIMED = {"ogg", "flac", *(known.decoder for known in VIDEOS)}
"""FFmpeg's names of formats with time stamps of their own; in others they only count what came before."""
GAP_FROM_S = 0.01
"""Time stamps this far apart leave a pause; below that, they are rounded, or drift."""
JUMP_FROM_S = 10.0
"""A longer pause in a format whose clock may jump, such as MPEG-TS, is none; FFmpeg's dts_delta_threshold."""
TS_DISCONT = 0x0200
"""Flag of such formats: AVFMT_TS_DISCONT of libavformat/avformat.h."""
MAX_CHANNELS = 64
"""libswresample converts no more."""
MAX_FAILED_READS = 100
STATED_HZ = 48_000
"""Rate that is assumed of a file that states none."""
WAIT_S = 0.2
"""Frames are mixed together when they are as long as this, which takes less time than each alone."""
FULL_SCALE = {"u8": 128, "s16": 32768, "s32": 2**31, "flt": 1, "dbl": 1}
"""FFmpeg's name of a format with samples side by side -> the sample that stands for 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Soundtrack:
    """One sound track: ``samples`` (N,) float32 mono, and what was found in it.

    ``start_s`` is the time of the first sample, and ``origin_s`` the start of all tracks, on the clock of the
    file. ``lost_s`` is the length of what could not be decoded, which is silent, and ``damage`` the reason.
    ``finite`` is False if samples were no numbers, which are 0. ``stereo`` (N, 2) is the sound with left and
    right apart, if that was asked for and it has several channels.
    """

    samples: F32
    start_s: float
    origin_s: float
    lost_s: float
    finite: bool
    duration_s: float
    damage: str = ""
    stereo: F32 | None = None


class _Joiner:
    """Joins frames of any rate, layout and format to samples at ``sample_rate`` Hz, on one clock.

    They are mono, (N,), or with ``stereo`` (N, 2).
    """

    def __init__(self, sample_rate: int, *, stereo: bool = False) -> None:
        self.sample_rate = sample_rate
        self._stereo = stereo
        self.finite = True
        self._kind: tuple[object, ...] = ()
        self._rate_hz = 0
        self._began_s, self._count = 0.0, 0
        """Where the frames of this kind begin, and their samples since."""
        self._waiting: list[F32] = []
        self._waiting_count = 0
        self._parts: list[F32] = []
        self._written = 0

    @property
    def end_s(self) -> float:
        """Length of what was joined."""
        return self._began_s + (self._count / self._rate_hz if self._rate_hz else 0.0)

    def add(self, frame: AudioFrame) -> None:
        """Append a frame."""
        import av
        import soxr

        kind = (frame.sample_rate, frame.layout.name, frame.format.name)
        if kind != self._kind:
            self._finish_part()
            self._kind, self._rate_hz = kind, frame.sample_rate
            names, channels = positions(frame.layout), 2 if self._stereo else 1
            self._mixer: Downmixer | StereoMixer = (
                StereoMixer(names) if self._stereo else Downmixer(names, frame.sample_rate)
            )
            self._converter = av.AudioResampler(format="flt")
            self._resampler = soxr.ResampleStream(
                frame.sample_rate, self.sample_rate, channels, dtype="float32"
            )
        self._waiting.append(self._interleaved(frame))
        self._waiting_count += frame.samples
        self._count += frame.samples
        if self._waiting_count >= max(WAIT_S * self._rate_hz, 4096):
            self._mix()

    def _mix(self) -> None:
        """Mix what waits."""
        if not self._waiting:
            return
        samples = np.concatenate(self._waiting)
        self._waiting, self._waiting_count = [], 0
        if not np.isfinite(samples).all():
            self.finite = False
            samples = np.nan_to_num(samples, nan=0, posinf=0, neginf=0)
        # Resampling what is far beyond full scale would overflow.
        self._write(np.clip(self._mixer.mix(samples), -1, 1))

    def add_silence(self, length_s: float) -> None:
        """Append silence after the first frame."""
        self._mix()
        left = round(length_s * self._rate_hz)
        self._count += left
        while left > 0:
            self._write(self._silence(min(left, 1 << 20)))
            left -= 1 << 20

    def finish(self, surplus_s: float = 0.0) -> F32:
        """Return all samples but the last ``surplus_s`` seconds."""
        self._count -= min(round(surplus_s * self._rate_hz), self._count)
        self._finish_part()
        return np.concatenate(self._parts) if self._parts else self._silence(0)

    def _interleaved(self, frame: AudioFrame) -> F32:
        """Return a frame as (N, C) float32 in [-1, 1], or beyond it in formats that can hold that."""
        channels = frame.layout.nb_channels
        if frame.format.name not in FULL_SCALE:
            # Also because PyAV reads planes past the end where there are eight and more of them.
            (frame,) = self._converter.resample(frame)
        scale = FULL_SCALE[frame.format.name]
        packed: F32 = frame.to_ndarray().reshape(-1, channels).astype(np.float32)
        if frame.format.name == "u8":
            packed -= np.float32(128)
        return packed if scale == 1 else packed / np.float32(scale)

    def _write(self, samples: F32) -> None:
        if self._rate_hz == self.sample_rate:
            self._append(samples)
        else:
            self._append(self._resampler.resample_chunk(samples))

    def _append(self, samples: F32) -> None:
        if len(samples):
            self._parts.append(samples)
            self._written += len(samples)

    def _silence(self, count: int) -> F32:
        return np.zeros((count, 2) if self._stereo else count, np.float32)

    def _finish_part(self) -> None:
        """Let out what the resampler holds back, and end where the clock says."""
        self._mix()
        if self._rate_hz and self._rate_hz != self.sample_rate:
            self._append(self._resampler.resample_chunk(self._silence(0), last=True))
        missing = round(self.end_s * self.sample_rate) - self._written
        if missing > 0:
            self._append(self._silence(missing))
        while missing < 0:
            last = self._parts.pop()
            kept = last[:missing]
            self._parts += [kept] if len(kept) else []
            self._written -= len(last) - len(kept)
            missing += len(last) - len(kept)
        self._began_s, self._count = self.end_s, 0


def positions(layout: object) -> tuple[str, ...]:
    """Return FFmpeg's names of a layout's channels; two that have none are left and right."""
    names = tuple(channel.name for channel in layout.channels)  # type: ignore[attr-defined]
    return ("FL", "FR") if names == ("NONE", "NONE") else names


def read_soundtrack(
    file: str | os.PathLike[str] | IO[bytes],
    what: str,
    sample_rate: int,
    *,
    max_duration_s: float = math.inf,
    silent_below: float = 0.0,
    stereo: bool = False,
) -> Soundtrack:
    """Decode the sound of a file: its default track, or if that is silent, the first one that is not.

    A packet that cannot be decoded, and a pause between time stamps, become silence of their length. Each
    frame is read at its own rate and layout. Joined files are read to their end.

    Args:
        file: a path, or an open binary file.
        what: names the file in messages.
        sample_rate: of the result, in Hz.
        max_duration_s: longer sounds are refused, as a small file may hold days of silence.
        silent_below: amplitude below which a track is silent.
        stereo: keep left and right apart, too, if the track has several channels.

    Raises:
        AudioError: no sound in it, nothing that decodes, or longer than allowed.
    """
    import av

    found: list[Soundtrack] = []
    for turn in count():
        try:
            with open_media(file) as container:
                tracks = _tracks(container, what)
                read = _Reader(container, tracks[turn], what, max_duration_s).read(sample_rate, stereo=stereo)
        except av.error.FFmpegError as exc:
            raise AudioError(f"{what} is not a sound file. Give WAV, FLAC, MP3, M4A or OGG.") from exc
        if len(read.samples) and max(read.samples.max(), -read.samples.min()) >= silent_below:
            return read
        found.append(read)
        if len(found) == len(tracks):
            break
        if not isinstance(file, str | os.PathLike):
            file.seek(0)
    for read in found:
        if len(read.samples):
            return read
    reason = f" ({found[0].damage})" if found[0].damage else ""
    raise AudioError(f"{what} holds no samples{reason}. Give an undamaged recording.")


def sound_header(path: Path) -> tuple[int, float | None]:
    """Return the rate in Hz and the length in seconds that a file states of its first sound track.

    The length is None where the file states none. A file without sound has the rate of one with.
    """
    import av

    try:
        with open_media(path) as container:
            if not container.streams.audio:
                return STATED_HZ, None
            track = container.streams.audio[0]
            length_s = track.duration and track.time_base and float(track.duration * track.time_base)
            if not length_s and container.duration:
                length_s = container.duration / 1e6
            return track.rate or STATED_HZ, length_s if length_s and length_s > 0 else None
    except (av.error.FFmpegError, ValueError):
        return STATED_HZ, None


def _tracks(container: InputContainer, what: str) -> list[AudioStream]:
    """Return the sound tracks that can be decoded, those first that are played by default."""
    import av

    if not container.streams.audio:
        raise AudioError(f"{what} has no sound in it. Give a sound file, or a video with sound.")
    # An unknown codec has no context.
    known = [s for s in container.streams.audio if s.codec_context and s.codec_context.name in SOUND_CODECS]
    if not known:
        raise AudioError(f"{what} is in an unknown format. Give WAV, FLAC, MP3, M4A or OGG.")
    return sorted(known, key=lambda stream: not stream.disposition & av.stream.Disposition.default)


class _Reader:
    """Decodes one track of an open file."""

    def __init__(
        self, container: InputContainer, track: AudioStream, what: str, max_duration_s: float
    ) -> None:
        self._container, self._track, self._what, self._max_s = container, track, what, max_duration_s
        self._timed = container.format.name in TIMED
        self._start_s: float | None = None
        self._stated_end_s = -math.inf
        """Where the file says that its last packet ends."""
        self._shift_s = 0.0
        """From the clock of the file to that of the result."""
        self._lost_s = 0.0
        self._owed_s = 0.0
        """Length of packets that failed since the last frame."""
        self._read_bytes, self._read_s = 0, 0.0
        """Size and length of what was decoded."""
        self._frame_s = 0.0
        self._damage = ""

    def read(self, sample_rate: int, *, stereo: bool) -> Soundtrack:
        """Return the whole track at ``sample_rate`` Hz; ``stereo`` as in :func:`read_soundtrack`."""
        import av

        self._check_size()
        joiner, channels = _Joiner(sample_rate), self._track.codec_context.layout.nb_channels
        apart = _Joiner(sample_rate, stereo=True) if stereo and channels > 1 else None
        joiners = [joiner] if apart is None else [joiner, apart]
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.error.FFmpegError as exc:
                self._lose(packet, exc.strerror or str(exc))
                continue
            if frames:
                self._read_bytes += packet.size
            if self._container.format.name == MP4 and packet.pts is not None and packet.time_base:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._stated_end_s = max(self._stated_end_s, end_s)
            for frame in frames:
                if frame.samples:
                    self._place(frame, joiners)
        surplus_s = 0.0
        if self._start_s is not None:
            for each in joiners:
                each.add_silence(self._owed_s)
            # An encoder fills its last packet up; MP4 says how much of it counts.
            surplus_s = joiner.end_s - self._shift_s - self._stated_end_s
        if not 0 < surplus_s < self._frame_s:
            surplus_s = 0.0
        return Soundtrack(
            samples=joiner.finish(surplus_s),
            start_s=self._start_s or 0.0,
            origin_s=self._origin_s(),
            lost_s=self._lost_s,
            finite=joiner.finite,
            duration_s=joiner.end_s,
            damage=self._damage,
            stereo=None if apart is None else apart.finish(surplus_s),
        )

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        """Yield the packets of the track; where reading fails, it goes on behind."""
        import av

        for _ in range(MAX_FAILED_READS):
            try:
                yield from self._container.demux(self._track)
                return
            except av.error.FFmpegError as exc:
                self._damage = exc.strerror or str(exc)

    def _lose(self, packet: Packet[AudioStream], reason: str) -> None:
        """Note that a packet cannot be decoded."""
        size_bytes = packet.size
        if self._container.format.name == "mp3":
            size_bytes = _mp3_sound_bytes(bytes(packet))
        if not size_bytes:
            return
        length_s = self._frame_s
        if self._timed and packet.duration and packet.time_base:
            length_s = float(packet.duration * packet.time_base)
        elif self._read_bytes:
            # A parser that has lost its way hands out several frames as one packet.
            length_s = size_bytes * self._read_s / self._read_bytes
        self._damage = reason
        self._lost_s += length_s
        self._owed_s += length_s

    def _place(self, frame: AudioFrame, joiners: list[_Joiner]) -> None:
        """Append a frame to all joiners, behind silence if its time stamp leaves a pause."""
        joiner = joiners[0]
        if frame.layout.nb_channels > MAX_CHANNELS and frame.format.is_planar:
            raise AudioError(
                f"{self._what} has {frame.layout.nb_channels} channels; at most {MAX_CHANNELS} are read. "
                "Give a stereo or mono recording."
            )
        time_s = frame.time
        if self._start_s is None:
            self._start_s = time_s or 0.0
            self._shift_s, self._owed_s = -self._start_s, 0.0
        pause_s, self._owed_s = self._owed_s, 0.0
        if self._timed and time_s is not None:
            pause_s = time_s + self._shift_s - joiner.end_s
        if pause_s < -GAP_FROM_S or self._is_jump(pause_s):
            # Joined files count anew.
            self._shift_s -= pause_s
        elif pause_s > (GAP_FROM_S if self._timed else 0):
            self._check_length(joiner.end_s + pause_s)
            for each in joiners:
                each.add_silence(pause_s)
            if self._container.format.name == "flac":
                # Its frames are numbered, so there are no pauses in an undamaged file.
                self._damage, self._lost_s = "frames are missing", self._lost_s + pause_s
        for each in joiners:
            each.add(frame)
        self._frame_s = frame.samples / frame.sample_rate
        self._read_s += self._frame_s
        self._check_length(joiner.end_s)

    def _is_jump(self, pause_s: float) -> bool:
        """Return whether a pause is one of the jumps that the clock of such a format makes."""
        return pause_s > JUMP_FROM_S and bool(self._container.format.flags & TS_DISCONT)

    def _check_size(self) -> None:
        """Refuse a file of samples by its size, before all of it is read."""
        codec = self._track.codec_context
        rate_bytes_s = (codec.bit_rate or 0) / 8
        if codec.name.startswith("pcm_") and rate_bytes_s and len(self._container.streams) == 1:
            # A header is a small part of a sound that is too long.
            self._check_length(0.99 * self._container.size / rate_bytes_s)

    def _check_length(self, length_s: float) -> None:
        if length_s > self._max_s:
            raise AudioError(
                f"{self._what} lasts more than {self._max_s:g} s, the most that is allowed here. "
                "Give a shorter recording."
            )

    def _origin_s(self) -> float:
        """Return when the first track of the file starts, on its clock."""
        starts_s = [
            stream.start_time * stream.time_base
            for stream in (*self._container.streams.audio, *self._container.streams.video)
            if stream.start_time is not None and stream.time_base
        ]
        return float(min(starts_s, default=0))


def _mp3_sound_bytes(packet: bytes) -> int:
    """Return how much of a packet is sound: joined files have tags and headers in between.

    The size of an ID3v2 tag is in its bytes 6 to 9, of which 7 bits count (id3.org, ID3v2.4.0, section 3.1);
    the frame of a Xing header holds no sound.
    """
    if packet.startswith(b"ID3"):
        size = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(packet[6:10], (21, 14, 7, 0), strict=False)
        )
        packet = packet[size:]
    return 0 if b"Xing" in packet[:200] or b"Info" in packet[:200] else len(packet)
