"""Portraits of a server: found once, kept on disk, and held ready for rendering."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from vortex.engines.base import Engine
from vortex.portrait import load_portrait
from vortex.types import Portrait
from vortex.web.folders import DataFolder, new_id
from vortex.web.store import PortraitRecord, Store

_ARRAYS = tuple(field.name for field in fields(Portrait) if field.name != "notes")


class PortraitShelf:
    """Finds the faces of uploaded pictures and keeps what engines need to know about them.

    At most ``max_portraits`` shared portraits stay on disk and ``max_prepared`` in memory; those used longest
    ago go first. Safe to call from any thread.
    """

    def __init__(
        self,
        store: Store,
        folder: DataFolder,
        engine: Engine,
        *,
        max_pixels: int,
        max_portraits: int,
        max_prepared: int,
    ) -> None:
        self._store, self._folder, self._engine = store, folder, engine
        self._max_pixels, self._max_portraits, self._max_prepared = max_pixels, max_portraits, max_prepared
        self._ready: OrderedDict[tuple[str, int, bool], Any] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, picture: Path, *, shared: bool) -> PortraitRecord:
        """Find the face in a picture file and keep the portrait.

        Raises:
            ImageError, NoFaceError: see :func:`vortex.portrait.load_portrait`.
        """
        portrait = load_portrait(picture, max_pixels=self._max_pixels)
        portrait_id, now_s = new_id(), time.time()
        # uncompressed, the largest one would take 11 MB
        np.savez_compressed(
            self._folder.portrait(portrait_id), **{name: getattr(portrait, name) for name in _ARRAYS}
        )
        height_px, width_px = portrait.image.shape[:2]
        face = portrait.landmarks_px[:468, :2]
        record = PortraitRecord(
            id=portrait_id,
            created_s=now_s,
            used_s=now_s,
            width_px=width_px,
            height_px=height_px,
            face_box_px=tuple(round(float(edge), 1) for edge in (*face.min(0), *face.max(0))),
            notes=portrait.notes,
            shared=shared,
        )
        self._store.add_portrait(record)
        self._trim()
        return record

    def _trim(self) -> None:
        surplus = len(self._store.portraits()) - self._max_portraits
        # the newest is not yet in use, but somebody is about to use it
        for record in self._store.idle_portraits(time.time())[:-1][: max(surplus, 0)]:
            self.delete(record.id)

    def delete(self, portrait_id: str) -> None:
        """Forget a portrait everywhere."""
        self._store.delete_portrait(portrait_id)
        self._folder.portrait(portrait_id).unlink(missing_ok=True)
        with self._lock:
            for key in [key for key in self._ready if key[0] == portrait_id]:
                del self._ready[key]

    def prepared(self, portrait_id: str, *, size_px: int, paste_back: bool) -> Any:
        """Return what the engine needs to render a portrait; prepared now, or kept from before.

        Raises:
            KeyError: no such portrait.
            InputError: an impossible size.
        """
        key = (portrait_id, size_px, paste_back)
        self._store.touch_portrait(portrait_id)
        # one at a time, so that two jobs of one portrait prepare it once
        with self._lock:
            if key not in self._ready:
                portrait = self._load(portrait_id)
                self._ready[key] = self._engine.prepare(portrait, size_px=size_px, paste_back=paste_back)
                while len(self._ready) > self._max_prepared:
                    self._ready.popitem(last=False)
            self._ready.move_to_end(key)
            return self._ready[key]

    @property
    def ready_count(self) -> int:
        """How many portraits are held in memory."""
        return len(self._ready)

    def _load(self, portrait_id: str) -> Portrait:
        path = self._folder.portrait(portrait_id)
        if not path.is_file():
            raise KeyError(portrait_id)
        with np.load(path, allow_pickle=False) as arrays:
            return Portrait(**{name: arrays[name] for name in _ARRAYS})
