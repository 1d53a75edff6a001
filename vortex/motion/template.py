"""Motion templates: keypoints of a driver in a file, ours (.npz), or a published one of LivePortrait (.pkl).

Nothing in either file is executed: ours holds plain arrays, and of a pickle only dicts, lists, texts, numbers
and arrays of numbers are built, by functions of this module.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vortex.errors import InputError, in_one_line
from vortex.media.formats import Format, format_of
from vortex.motion.transfer import nearest_rotation
from vortex.runtime.files import check_output_path, whole_file
from vortex.runtime.pickles import PickledArray, read_pickle
from vortex.types import F64, FloatArray, KeypointTrack, parse_fps

SCHEMA = "vortex-motion-template"
VERSION = 1
SUFFIX = ".npz"
MAX_BYTES = 256 << 20
"""Largest template, before and after unpacking: more than four hours at 30 frames per second."""
MAX_NUMBER = 100.0
"""Largest number in a template; those of faces are below 10."""
MIN_SCALE = 0.01
"""Least scale of a face; those of faces are above 0.5, and relative motion divides by it."""
ROTATION_SLACK = 1e-2
"""Largest difference of R R^T from the identity; published rotations are rounded to float32."""
_SHAPES: Mapping[str, tuple[int, ...]] = {
    "exp": (21, 3),
    "rotation": (3, 3),
    "scale": (),
    "translation": (3,),
    "eye_ratios": (2,),
    "lip_ratio": (),
}
_FRAME_KEYS: Mapping[str, tuple[str, ...]] = {
    "exp": ("exp",),
    "rotation": ("R", "R_d"),
    "scale": ("scale",),
    "translation": ("t",),
}
"""Under which keys published templates have these arrays in each frame; older ones use the last."""
_LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "eye_ratios": ("c_eyes_lst", "c_d_eyes_lst"),
    "lip_ratio": ("c_lip_lst", "c_d_lip_lst"),
}
"""The same of lists with an entry for each frame."""
_OPTIONAL = ("eye_ratios", "lip_ratio")
_ZIP, _PICKLES = b"PK\x03\x04", tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
TEMPLATES = (
    Format("motion template", "numpy", tuple(((0, start),) for start in (_ZIP, *_PICKLES)), uploads=True),
)
"""The kinds of file that :func:`load_template` reads."""


def is_template(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is a template of one of the two kinds."""
    return format_of(head, TEMPLATES) is not None


def check_template_path(path: Path) -> None:
    """Raise InputError if no template can be written at ``path``."""
    check_output_path(path, (SUFFIX,), "Template")


def save_template(path: Path, track: KeypointTrack) -> None:
    """Write a track, with its neutral frame, as arrays under the names of its fields.

    Raises:
        InputError: it cannot be written there.
    """
    check_template_path(path)
    arrays = _arrays(track) | {f"neutral_{n}": array[0] for n, array in _arrays(track.reference).items()}
    try:
        with whole_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, schema=SCHEMA, version=VERSION, fps=str(track.fps), **arrays)
    except OSError as exc:
        raise InputError(f"Template '{path}' cannot be written ({exc.strerror}). Write elsewhere.") from exc


def load_template(path: Path) -> KeypointTrack:
    """Read a template, ours or a published one.

    Raises:
        InputError: no such file; not a template; too large; numbers that no face has; or, of a pickle,
            content that is more than data.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"Template '{path}' has more than {MAX_BYTES >> 20} MiB. Give a shorter one.")
        content = path.read_bytes()
    except OSError as exc:
        raise InputError(f"Template '{path}' cannot be read ({exc.strerror}). Give a .npz or .pkl.") from exc
    try:
        return _load_arrays(content) if content.startswith(_ZIP) else _published_track(_unpickle(content))
    except InputError as exc:
        raise InputError(f"Template '{path}': {exc}") from exc


def _arrays(track: KeypointTrack) -> dict[str, FloatArray]:
    arrays = {name: getattr(track, name) for name in _SHAPES}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items() if array is not None}


def _load_arrays(content: bytes) -> KeypointTrack:
    try:
        _check_members(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            stored = dict(arrays)
    except Exception as exc:  # a damaged archive raises whatever its parts raise
        raise InputError(
            f"not a motion template ({in_one_line(exc)}). Make one with vortex capture."
        ) from exc
    if str(stored.get("schema")) != SCHEMA:
        raise InputError("no motion template of vortex. Make one with vortex capture.")
    if str(stored.get("version")) != str(VERSION):
        raise InputError(f"version {stored.get('version')}; this vortex reads {VERSION}. Make it again.")
    fps = parse_fps(str(stored.get("fps")))
    track = _checked_track(stored, fps)
    neutral = {name: stored[f"neutral_{name}"][None] for name in _SHAPES if f"neutral_{name}" in stored}
    return replace(track, neutral=_checked_track(neutral, fps))


def _check_members(content: bytes) -> None:
    """Raise ValueError if the arrays of a file would take more memory than it says, or hold objects."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB unpacked")
        for member in members:
            with archive.open(member) as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError(f"{member.filename} has another format")
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if (
                dtype.kind not in "fiuU"
                or int(np.prod(shape, dtype=object)) * dtype.itemsize > member.file_size
            ):
                raise ValueError(f"{member.filename} holds {dtype} of shape {shape}")


def _checked_track(stored: Mapping[str, Any], fps: Fraction) -> KeypointTrack:
    """Return the track of stored arrays; InputError for what is missing or no face has."""
    arrays: dict[str, Any] = {}
    for name, shape in _SHAPES.items():
        if name not in stored:
            if name in _OPTIONAL:
                continue
            raise InputError(f"{name} is missing. Make the template again.")
        arrays[name] = _checked_numbers(name, np.asarray(stored[name]), shape)
    if not len(arrays["exp"]) or len({len(array) for array in arrays.values()}) > 1:
        raise InputError("no frames, or not as many of each kind. Make the template again.")
    turn, scale = arrays["rotation"], arrays["scale"]
    if np.abs(turn @ turn.swapaxes(1, 2) - np.eye(3)).max() > ROTATION_SLACK or np.linalg.det(turn).min() < 0:
        raise InputError("rotation holds what is no rotation. Make the template again.")
    if scale.min() < MIN_SCALE:
        raise InputError(f"scale is below {MIN_SCALE}. Make the template again.")
    arrays["rotation"] = nearest_rotation(turn)
    return KeypointTrack(**arrays, fps=fps)


def _checked_numbers(name: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> F64:
    """Return an array of numbers with a row of ``shape`` for each frame; InputError for another one."""
    wanted = f"(frames, {', '.join(map(str, shape))})"
    if array.dtype.kind not in "fiu" or array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise InputError(f"{name} has shape {array.shape} of {array.dtype}; numbers of {wanted} are read.")
    numbers = array.astype(np.float64)
    if not (np.isfinite(numbers).all() and np.abs(numbers).max(initial=0) < MAX_NUMBER):
        raise InputError(f"{name} has numbers that no face has. Make the template again.")
    return numbers


def _unpickle(content: bytes) -> Any:
    try:
        return read_pickle(content)
    except MemoryError as exc:
        raise InputError("more memory is wanted than there is. Give another template.") from exc
    except Exception as exc:  # a damaged pickle raises whatever its operations raise
        raise InputError(
            f"refused: {in_one_line(exc)}. Give a template of LivePortrait, or one of vortex capture."
        ) from exc


def _published_track(stored: Any) -> KeypointTrack:
    """Return the track of a published template, as pickled by LivePortrait's pipeline."""
    frames = stored.get("motion") if isinstance(stored, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames) or not frames:
        raise InputError("no list 'motion' of frames. Give a template of LivePortrait's pipeline.")
    columns = {name: [_numbers(frame, name, keys) for frame in frames] for name, keys in _FRAME_KEYS.items()}
    for name, lists in _LIST_KEYS.items():
        rows: list[Any] = next((stored[key] for key in lists if isinstance(stored.get(key), list)), [])
        if len(rows) == len(frames):
            columns[name] = [_numbers({name: row}, name, (name,)) for row in rows]
    fps = stored.get("output_fps", 25)
    rate = parse_fps(float(fps.values.ravel()[0]) if isinstance(fps, PickledArray) else fps)
    return _checked_track({name: np.stack(column) for name, column in columns.items()}, rate)


def _numbers(frame: Mapping[str, Any], name: str, keys: tuple[str, ...]) -> FloatArray:
    """Return the array ``name`` of a track, which a frame has under one of some keys."""
    found = next((frame[key] for key in keys if key in frame), None)
    try:
        if found is None:
            raise TypeError
        values = np.asarray(found.values if isinstance(found, PickledArray) else found, np.float64)
        return values.reshape(_SHAPES[name])
    except (ValueError, TypeError) as exc:
        wanted = f"{' or '.join(keys)} as numbers of shape {_SHAPES[name]}"
        raise InputError(f"a frame has no {wanted}. Give a template of LivePortrait's pipeline.") from exc
