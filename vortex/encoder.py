"""Frames and sound to an MP4 file that every player plays: H.264, AAC, exact rate, never half a file."""

from __future__ import annotations

import errno
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vortex.errors import EncodeError, InputError
from vortex.types import LUMA_WEIGHTS, Audio, Frame, Hook

X264_OPTIONS = {
    "preset": "superfast",
    "crf": "17",
    "profile": "high",
    # three B-frames each time, and no search for cuts, which a talking picture has none of: x264 looks at no
    # frame twice. With the preset's own choice, crf 19 gave this quality for a sixth more work and bytes.
    "x264-params": "b-adapt=0:scenecut=0",
}
NVENC_OPTIONS = {"preset": "p4", "rc": "vbr", "cq": "19", "b": "0", "profile": "high"}
ENCODERS = {"libx264": X264_OPTIONS, "h264_nvenc": NVENC_OPTIONS}
"""FFmpeg's name of each H.264 encoder -> its settings: constant quality, whatever size it takes."""
AAC_BITS_PER_S = 128_000
AAC_OPTIONS = {"aac_coder": "fast"}
"""FFmpeg's slower search is no better at this rate: noise 26 to 42 dB below speech, with this 42 to 46."""
YCBCR_FROM_RGB = np.array(
    [
        [*(219 / 255 * LUMA_WEIGHTS), 16],
        [*(224 / 255 / 1.8556 * ([0, 0, 1] - LUMA_WEIGHTS)), 128],
        [*(224 / 255 / 1.5748 * ([1, 0, 0] - LUMA_WEIGHTS)), 128],
    ]
)
"""Y, Cb, Cr of 8 bits, limited range, from R, G, B and 1 (ITU-R BT.709-6, items 3.2, 3.3 and 3.4)."""
Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels."""
AHEAD_FRAMES = 12
"""Frames that may wait between renderer and encoder; the memory this takes does not grow with the video."""


def check_video_path(path: Path) -> None:
    """Make sure that a video can be written at ``path``, before any work starts.

    Raises:
        InputError: not an .mp4 name, a folder, or a folder that is missing or not writable.
    """
    if path.suffix.lower() != ".mp4":
        raise InputError(f"Output '{path}' does not end in .mp4; vortex writes MP4 files.")
    if os.path.isdir(path):
        raise InputError(f"Output '{path}' is a folder. Give the name of a file to write.")
    folder = path.parent
    if not os.path.isdir(folder):
        raise InputError(f"The folder '{folder}' does not exist. Create it first, or write elsewhere.")
    try:
        # permission bits do not tell: not for root, not on a read-only or full disk
        with tempfile.TemporaryFile(dir=folder):
            pass
        path.exists()
    except OSError as exc:
        raise InputError(f"Output '{path}' cannot be written ({exc.strerror}). Write elsewhere.") from exc


def choose_encoder(device: str) -> str:
    """Return which of :data:`ENCODERS` suits frames made on ``device``, such as "cpu" or "cuda:0".

    A GPU that renders may encode, too, and leave the processor alone. On a CPU it is always libx264.
    """
    return "h264_nvenc" if device.startswith("cuda") and nvenc_works() else "libx264"


@lru_cache(maxsize=1)
def nvenc_works() -> bool:
    """Tell, by encoding a frame, whether NVENC can be used here: FFmpeg lists it also where no GPU is."""
    import av

    try:
        context = av.CodecContext.create("h264_nvenc", "w")
        context.width, context.height, context.pix_fmt = 256, 256, "yuv420p"
        context.time_base = Fraction(1, 24)
        frame = av.VideoFrame(256, 256, "yuv420p")
        frame.pts = 0
        return bool(context.encode(frame) + context.encode(None))
    except (OSError, ValueError, av.error.FFmpegError):
        # unknown to this build of FFmpeg, no driver, or no session left on the GPU
        return False


def encode_video(
    path: Path,
    frames: Iterator[Frame],
    audio: Audio,
    fps: Fraction,
    size_px: tuple[int, int],
    *,
    comment: str = "",
    encoder: str = "libx264",
    hook: Hook | None = None,
) -> int:
    """Write frames (H, W, 3) uint8 RGB and sound; return the number of frames.

    ``size_px`` is (width, height), both even; ``encoder`` is one of :data:`ENCODERS`. Frames are drawn from
    the iterator in a thread of its own, so that rendering and encoding overlap. The file appears at ``path``
    when it is whole; whatever goes wrong, nothing is left behind.

    Raises:
        InputError: see :func:`check_video_path`.
        EncodeError: the disk is full, or the codec failed.
        Whatever the iterator raises.
    """
    import av

    check_video_path(path)
    total = round(audio.duration_s * fps)
    ahead = _Ahead(frames)
    try:
        with unnamed_file(path) as part:
            return _write(
                part,
                ahead,
                audio,
                fps,
                size_px,
                comment,
                encoder,
                lambda done: hook and hook("render", done, total),
            )
    except (OSError, av.error.FFmpegError) as exc:
        raise EncodeError(_reason(path, exc)) from exc
    finally:
        ahead.stop()


@contextmanager
def unnamed_file(path: Path) -> Iterator[Path]:
    """Give the path of a file to fill, which gets the name ``path`` when the block ends well.

    Until then it has no name (Linux, O_TMPFILE), so that nothing is left even of a process that is killed.
    Where the file system has no such files, it has a hidden name beside ``path``.
    """
    # short, as the longest legal name of a file leaves no room for more
    hidden = path.with_name(f".vortex-{os.getpid()}-{threading.get_ident()}.part")
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (OSError, AttributeError):
        descriptor = None
    try:
        if descriptor is None:
            yield hidden
        else:
            unnamed = Path(f"/proc/self/fd/{descriptor}")
            yield unnamed
            hidden.unlink(missing_ok=True)
            # only with a folder named does Python call linkat, which follows the link; the path is absolute
            os.link(unnamed, hidden, src_dir_fd=descriptor, follow_symlinks=True)
        os.replace(hidden, path)
    finally:
        if descriptor is not None:
            os.close(descriptor)
        hidden.unlink(missing_ok=True)


def _reason(path: Path, error: Any) -> str:
    if error.errno == errno.ENOSPC:
        return f"No space left on the disk of '{path}'. Free some, or write elsewhere."
    return f"'{path}' cannot be written: {error.strerror or error}. Write elsewhere."


def _write(
    part: Path,
    frames: _Ahead,
    audio: Audio,
    fps: Fraction,
    size_px: tuple[int, int],
    comment: str,
    encoder: str,
    report: Callable[[int], object],
) -> int:
    import av

    count = 0
    with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = comment
        video = _add_video(container, encoder, fps, size_px)
        sound = container.add_stream("aac", rate=audio.sample_rate, layout="mono", options=AAC_OPTIONS)
        sound.bit_rate = AAC_BITS_PER_S
        samples_done = 0
        colours = Colours(size_px)
        for picture in frames:
            frame = colours.convert(picture)
            frame.pts, frame.time_base = count, 1 / fps
            container.mux(video.encode(frame))
            count += 1
            samples_done = _mux_sound(
                container, sound, audio, samples_done, round(count / fps * audio.sample_rate)
            )
            report(count)
        container.mux(video.encode(None))
        _mux_sound(container, sound, audio, samples_done, len(audio.samples))
        container.mux(sound.encode(None))
    return count


class Colours:
    """Turns RGB pictures into BT.709 frames, and converts again only what changes from one to the next."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        width, height = size_px
        # planes of Y, Cb, Cr, one after the other as FFmpeg packs them
        self._packed = np.empty((height * 3 // 2, width), np.uint8)
        self._luma = self._packed[:height]
        self._chroma = self._packed[height:].reshape(2, height // 2, width // 2)
        self._before: Frame | None = None

    def convert(self, picture: Frame) -> Any:
        """Return a yuv420p frame of a picture (H, W, 3)."""
        import av

        picture = np.ascontiguousarray(picture)
        height, width = picture.shape[:2]
        box = (0, 0, width, height) if self._before is None else changed_box(self._before, picture)
        if box is not None:
            self._update(picture, box)
        self._before = picture
        # a copy: the encoder keeps frames. Without one, PyAV takes only heights that 4 divides
        return av.VideoFrame.from_ndarray(self._packed, format="yuv420p")

    def _update(self, picture: Frame, box: Box) -> None:
        """Convert a box of even corners. Cb and Cr are averages over 2x2 pixels."""
        import cv2

        x0, y0, x1, y1 = box
        inside = cv2.transform(picture[y0:y1, x0:x1], YCBCR_FROM_RGB)
        half = cv2.resize(inside, ((x1 - x0) // 2, (y1 - y0) // 2), interpolation=cv2.INTER_AREA)
        self._luma[y0:y1, x0:x1] = cv2.extractChannel(inside, 0)
        for plane, channel in zip(self._chroma, (1, 2), strict=True):
            plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = cv2.extractChannel(half, channel)


def changed_box(before: Frame, picture: Frame) -> Box | None:
    """Return the box of even corners outside of which two pictures (H, W, 3) are the same, None if all is."""
    # two bytes at a time; a row has an even number, as the width is even
    pairs, pairs_before = (pixels.reshape(len(pixels), -1).view(np.uint16) for pixels in (picture, before))
    differ = pairs != pairs_before
    rows = np.flatnonzero(differ.any(axis=1))
    if not len(rows):
        return None
    y0, y1 = int(rows[0]) // 2 * 2, int(rows[-1]) // 2 * 2 + 2
    columns = np.flatnonzero(differ[y0:y1].any(axis=0))
    # two pixels are three pairs
    return int(columns[0]) // 3 * 2, y0, int(columns[-1]) // 3 * 2 + 2, y1


def _add_video(container: Any, encoder: str, fps: Fraction, size_px: tuple[int, int]) -> Any:
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    stream = container.add_stream(encoder, rate=fps, options=ENCODERS[encoder])
    stream.width, stream.height = size_px
    stream.pix_fmt = "yuv420p"
    stream.time_base = 1 / fps
    context = stream.codec_context
    # PyAV's own choice cuts each frame into a slice for every core: another file on every machine
    context.thread_type = "FRAME"
    # frames are rendered meanwhile, on a core of their own; with more threads x264 makes other frames
    context.thread_count = min(max((os.cpu_count() or 1) - 1, 1), 8)
    context.time_base = 1 / fps
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    return stream


def _mux_sound(container: Any, stream: Any, audio: Audio, start: int, end: int) -> int:
    """Encode the samples from ``start`` to ``end``: sound and picture lie side by side in the file."""
    import av

    if end <= start:
        return start
    chunk = np.ascontiguousarray(audio.samples[start:end])[None]
    frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="mono")
    frame.sample_rate = audio.sample_rate
    frame.pts, frame.time_base = start, Fraction(1, audio.sample_rate)
    container.mux(stream.encode(frame))
    return min(end, len(audio.samples))


class _Ahead:
    """Draws from an iterator in a thread, a bounded number of items ahead of whoever reads it."""

    def __init__(self, source: Iterator[Frame]) -> None:
        self._source = source
        self._queue: queue.Queue[Any] = queue.Queue(AHEAD_FRAMES)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vortex-render", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last: Any = None
        try:
            for item in self._source:
                if not self._put(item):
                    return
        except BaseException as exc:
            # it belongs to the reader, who raises it
            last = exc
        self._put(last)

    def _put(self, item: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[Frame]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """Stop drawing and wait for the thread."""
        self._stopped.set()
        self._thread.join()
