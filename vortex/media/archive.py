"""A video as a ZIP file of PNG pictures and a WAV file, for programs that edit single pictures."""

from __future__ import annotations

import wave
import zipfile
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path

import numpy as np

from vortex.types import F32, Frame

PICTURE_NAME, SOUND_NAME = "frame-{:06d}.png", "sound.wav"
"""Names in the file; pictures count from 1."""


class PictureArchive(AbstractContextManager["PictureArchive"]):
    """A ZIP file: one PNG for each picture, with its matte if it has one, then the sound as 16-bit WAV.

    Args:
        path: where to write.
        samples: the sound, (N, channels) float32 in [-1, 1].
        sample_rate: of the sound, in Hz.
        comment: what the file says of itself.
    """

    def __init__(self, path: Path, samples: F32, sample_rate: int, comment: str) -> None:
        self._file = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._file.comment = comment.encode("utf-8", "replace")[:65_535]
        self._samples, self._rate_hz = samples, sample_rate
        self._count = 0

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def add(self, picture: Frame) -> None:
        """Write a picture (H, W, 3) or (H, W, 4) uint8."""
        import cv2

        self._count += 1
        code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
        ordered = cv2.cvtColor(np.ascontiguousarray(picture), code)
        _, packed = cv2.imencode(".png", ordered)
        self._file.writestr(PICTURE_NAME.format(self._count), packed.tobytes())

    def finish(self) -> None:
        """Write the sound."""
        made = BytesIO()
        with wave.open(made, "wb") as sound:
            sound.setnchannels(self._samples.shape[1])
            sound.setsampwidth(2)
            sound.setframerate(self._rate_hz)
            sound.writeframes(np.round(np.clip(self._samples, -1, 1) * 32767).astype("<i2").tobytes())
        self._file.writestr(SOUND_NAME, made.getvalue())
