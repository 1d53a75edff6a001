"""ICC profiles made from published primaries, and the pixel values that they stand for."""

from __future__ import annotations

import struct

import numpy as np

DISPLAY_P3_PRIMARIES = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
"""x, y of red, green and blue (SMPTE RP 431-2, as in Apple's Display P3)."""
ADOBE_PRIMARIES = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
ADOBE_GAMMA = 563 / 256
"""Primaries and gamma of Adobe RGB (1998) Color Image Encoding, sections 4.3.1 and 4.3.4.2; white is D65."""
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
XYZ_FROM_LINEAR_ADOBE = np.array(
    [
        [0.57666904, 0.18555824, 0.18822865],
        [0.29734498, 0.62736357, 0.07529146],
        [0.02703136, 0.07068885, 0.99133754],
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


def srgb_from_adobe(pixels: np.ndarray) -> np.ndarray:
    """Return sRGB values (..., 3) in [0, 255] of Adobe RGB (1998) values (..., 3) in [0, 255]."""
    light = (pixels / 255) ** ADOBE_GAMMA @ (LINEAR_SRGB_FROM_XYZ @ XYZ_FROM_LINEAR_ADOBE).T
    return 255 * encoded(np.clip(light, 0, 1))


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1, (1 - x - y) / y])


def display_p3_profile() -> bytes:
    """Return the profile of Display P3."""
    return _profile(DISPLAY_P3_PRIMARIES, linear(np.linspace(0, 1, 4096)))


def adobe_rgb_profile() -> bytes:
    """Return the profile of Adobe RGB (1998)."""
    return _profile(ADOBE_PRIMARIES, np.linspace(0, 1, 4096) ** ADOBE_GAMMA)


def grey_profile(gamma: float) -> bytes:
    """Return the profile of a grey screen with a gamma."""
    return _made(b"GRAY", {b"kTRC": _curve(np.linspace(0, 1, 4096) ** gamma)})


def _profile(primaries: tuple[tuple[float, float], ...], light: np.ndarray) -> bytes:
    """Return a display profile with three colorants and one curve; both whites are D65."""
    columns = np.stack([_xyz(x, y) for x, y in primaries], axis=1)
    columns = columns * np.linalg.solve(columns, _xyz(*D65))
    gain = (BRADFORD @ D50_XYZ) / (BRADFORD @ _xyz(*D65))
    colorants = np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD @ columns
    tags = {b"rXYZ": colorants[:, 0], b"gXYZ": colorants[:, 1], b"bXYZ": colorants[:, 2]}
    curves = {channel + b"TRC": _curve(light) for channel in (b"r", b"g", b"b")}
    return _made(b"RGB ", {name: _xyz_tag(xyz) for name, xyz in tags.items()} | curves)


def _curve(light: np.ndarray) -> bytes:
    values = np.round(65535 * light).astype(">u2").tobytes()
    return b"curv" + bytes(4) + struct.pack(">I", len(light)) + values


def _made(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a display profile of ICC version 2.4 for a colour space."""
    name = b"Colours of a test\0"
    text = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz_tag(D50_XYZ),
        **tags,
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(text)
    for signature, content in text.items():
        table += signature + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s12x4s", size, b"none", 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    header += bytes(28) + _fixed(D50_XYZ)
    return header.ljust(128, b"\0") + struct.pack(">I", len(text)) + table + body


def _xyz_tag(xyz: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(xyz)


def _fixed(xyz: np.ndarray) -> bytes:
    """Return three s15Fixed16Numbers."""
    return np.round(xyz * 65536).astype(">i4").tobytes()
