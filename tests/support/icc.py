"""ICC profiles made from published primaries, and the pixel values that they stand for."""

from __future__ import annotations

import struct

import numpy as np

DISPLAY_P3_PRIMARIES = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
"""x, y of red, green and blue (SMPTE RP 431-2, as in Apple's Display P3)."""
D65 = (0.3127, 0.3290)
D50_XYZ = np.array([0.9642, 1.0, 0.8249])
"""White of the profile connection space (ICC.1, 6.3.4.3)."""
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""From XYZ to the cone responses of the Bradford adaptation (ICC.1, annex E)."""

XYZ_FROM_LINEAR_P3 = np.array(
    [
        [0.48657095, 0.26566769, 0.19821729],
        [0.22897456, 0.69173852, 0.07928691],
        [0.0, 0.04511338, 1.04394437],
    ]
)
LINEAR_SRGB_FROM_XYZ = np.array(
    [
        [3.24096994, -1.53738318, -0.49861076],
        [-0.96924364, 1.87596750, 0.04155506],
        [0.05563008, -0.20397696, 1.05697151],
    ]
)
"""Published matrices (W3C CSS Color 4, sample code for colour conversions); both whites are D65."""


def linear(encoded: np.ndarray) -> np.ndarray:
    """Return linear light from values in [0, 1]; sRGB (IEC 61966-2-1) and Display P3 share this function."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """Return the inverse of :func:`linear`."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def srgb_from_p3(pixels: np.ndarray) -> np.ndarray:
    """Return sRGB values (..., 3) in [0, 255] of Display P3 values (..., 3) in [0, 255]."""
    light = linear(pixels / 255) @ (LINEAR_SRGB_FROM_XYZ @ XYZ_FROM_LINEAR_P3).T
    return 255 * encoded(np.clip(light, 0, 1))


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1, (1 - x - y) / y])


def display_p3_profile() -> bytes:
    """Return a display profile of ICC version 2.4 with three colorants and one curve."""
    columns = np.stack([_xyz(x, y) for x, y in DISPLAY_P3_PRIMARIES], axis=1)
    columns = columns * np.linalg.solve(columns, _xyz(*D65))
    gain = (BRADFORD @ D50_XYZ) / (BRADFORD @ _xyz(*D65))
    colorants = np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD @ columns
    curve = np.round(65535 * linear(np.linspace(0, 1, 4096))).astype(">u2").tobytes()
    name = b"Display P3 of a test\0"
    text = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz_tag(D50_XYZ),
        b"rXYZ": _xyz_tag(colorants[:, 0]),
        b"gXYZ": _xyz_tag(colorants[:, 1]),
        b"bXYZ": _xyz_tag(colorants[:, 2]),
        **{
            channel + b"TRC": b"curv" + bytes(4) + struct.pack(">I", 4096) + curve
            for channel in (b"r", b"g", b"b")
        },
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(text)
    for signature, content in text.items():
        table += signature + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s12x4s", size, b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    header += bytes(28) + _fixed(D50_XYZ)
    return header.ljust(128, b"\0") + struct.pack(">I", len(text)) + table + body


def _xyz_tag(xyz: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(xyz)


def _fixed(xyz: np.ndarray) -> bytes:
    """Return three s15Fixed16Numbers."""
    return np.round(xyz * 65536).astype(">i4").tobytes()
