"""Renders a clip with other words: the mouth of each frame is chosen, or drawn, and blended in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vortex.engines.base import blendshapes_only
from vortex.engines.mesh.engine import MeshEngine
from vortex.motion.transfer import Motion
from vortex.revoice.clip import Clip
from vortex.revoice.composing import MouthShare, compose
from vortex.revoice.library import MouthLibrary, mouth_box
from vortex.revoice.lips import GAP, wanted_lips
from vortex.revoice.order import fades, frame_order, new_scenes
from vortex.revoice.selection import DRAWN, MouthMeasures, select_mouths
from vortex.revoice.warping import MouthPicture
from vortex.runtime.setting import single_blas_thread
from vortex.types import F64, I64, Frame, MotionTrack

FADE_FRAMES = 3
"""Frames in which a drawn mouth takes over from a chosen one, or a covered mouth from either."""
JUMP_SHARE = 1 / 3
"""Share of the other mouth in the frames before and after a jump between two of the clip."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What each of N output frames shows.

    ``order`` (N,) are numbers of the clip's frames; ``wanted`` (N, 6) lips; ``rows`` (N,) of the library;
    ``drawn`` (N,) is the share of the drawn mouth, ``shown`` (N,) that of the new mouth: 0 where the frame
    passes through. ``begins`` (N,) is True where a scene of the clip begins.
    """

    order: I64
    wanted: F64
    rows: I64
    drawn: F64
    shown: F64
    begins: npt.NDArray[np.bool_]


def plan_mouths(library: MouthLibrary, order: I64, wanted: F64) -> Plan:
    """Return which mouths the frames ``order`` (N,) of a clip show for ``wanted`` (N, 6) lips."""
    measures, numbers = library.measures, library.numbers
    kept = MouthMeasures(
        measures.lips[numbers], measures.turns_deg[numbers], measures.light[numbers], measures.detail[numbers]
    )
    targets = MouthMeasures(wanted, measures.turns_deg[order], measures.light[order], measures.detail[order])
    begins = new_scenes(order, library.cuts)
    rows = select_mouths(targets, kept, numbers, begins)
    shown = fades(library.usable[order], FADE_FRAMES, begins)
    drawn = (rows == DRAWN) & (shown > 0)
    return Plan(order, wanted, _bridged(rows), 1 - fades(~drawn, FADE_FRAMES, begins), shown, begins)


def _bridged(rows: I64) -> I64:
    """Return rows in which DRAWN is replaced by the nearest chosen one; DRAWN if there is none at all."""
    chosen = np.flatnonzero(rows != DRAWN)
    if not len(chosen):
        return rows
    at = np.arange(len(rows))
    after = np.searchsorted(chosen, at).clip(0, len(chosen) - 1)
    before = (after - 1).clip(0)
    nearer = np.abs(chosen[before] - at) <= np.abs(chosen[after] - at)
    return np.asarray(rows[np.where(nearer, chosen[before], chosen[after])], np.int64)


class ClipRenderer:
    """Renders one clip; it stands where an engine stands for a portrait. Any thread may use it."""

    name = "mesh"
    device = "cpu"

    def __init__(self) -> None:
        self._planned: tuple[Clip, MotionTrack, Plan] | None = None

    def iter_frames(self, prepared: Clip, motion: Motion, *, quality: str = "full") -> Iterator[Frame]:
        """Return an iterator of one frame of the clip for each row of ``motion``, with its mouth."""
        track = blendshapes_only(motion, self.name)
        return render_plan(prepared, track, self._plan(prepared, track))

    def notes(self, prepared: Clip, motion: Motion, *, quality: str = "full") -> tuple[str, ...]:
        """Return how many frames have a drawn mouth, or pass through untouched."""
        track = blendshapes_only(motion, self.name)
        plan = self._plan(prepared, track)
        notes, frames = [], len(plan.order)
        drawn, untouched = int((plan.drawn == 1).sum()), int((plan.shown == 0).sum())
        if drawn:
            notes.append(f"no mouth of the clip fits {drawn} of {frames} frames, which have a drawn one")
        if untouched:
            notes.append(f"{untouched} of {frames} frames show no face or a covered mouth, and are unchanged")
        if frames > len(prepared.steady_numbers()):
            notes.append("the sound is longer than the clip, which runs to and fro")
        return tuple(notes)

    def _plan(self, clip: Clip, motion: MotionTrack) -> Plan:
        if self._planned is None or self._planned[0] is not clip or self._planned[1] is not motion:
            shown = clip.steady_numbers()
            order = shown[frame_order(len(motion), clip.head_motion()[shown], clip.library.cuts)]
            plan = plan_mouths(clip.library, order, wanted_lips(motion, clip.library.mouth))
            self._planned = (clip, motion, plan)
        return self._planned[2]


def render_plan(clip: Clip, motion: MotionTrack, plan: Plan) -> Iterator[Frame]:
    """Yield the frames of a plan; drawn mouths follow ``motion``, which has a row for each of them."""
    drawn = _drawn_mouths(clip, motion, plan)
    for index, frame in enumerate(clip.frames(plan.order)):
        if plan.shown[index] > 0:
            with single_blas_thread():
                mouths = _mouths(clip.library, plan, index, drawn)
                number = int(plan.order[index])
                compose(frame, clip.library, number, plan.wanted[index], mouths, float(plan.shown[index]))
        yield frame


def _mouths(library: MouthLibrary, plan: Plan, index: int, drawn: Iterator[MouthPicture]) -> list[MouthShare]:
    """Return the mouths of a frame with their shares; takes the next drawn one if it has a share."""
    mouths = []
    share = float(plan.drawn[index])
    if share > 0:
        mouths.append(MouthShare(next(drawn), share, fixed=True))
    if share < 1:
        mouths += [
            MouthShare(library.picture(row), (1 - share) * part)
            for row, part in _chosen(library, plan, index)
        ]
    return mouths


def _chosen(library: MouthLibrary, plan: Plan, index: int) -> list[tuple[int, float]]:
    """Return the chosen rows of a frame with their shares: two beside a jump within a scene."""
    row = int(plan.rows[index])
    for other in (index - 1, index + 1):
        if 0 <= other < len(plan.rows) and not plan.begins[max(index, other)]:
            beside = int(plan.rows[other])
            if abs(int(library.numbers[beside]) - int(library.numbers[row])) > 1:
                return [(row, 1 - JUMP_SHARE), (beside, JUMP_SHARE)]
    return [(row, 1.0)]


def _drawn_mouths(clip: Clip, motion: MotionTrack, plan: Plan) -> Iterator[MouthPicture]:
    """Yield a mouth, drawn by the mesh engine, for each frame in which one has a share."""
    rows = np.flatnonzero((plan.drawn > 0) & (plan.shown > 0))
    if not len(rows):
        return
    library = clip.library
    number = resting_frame(library)
    picture = next(clip.frames(np.array([number])))
    landmarks_px = library.landmarks_px[number]
    portrait = replace(clip.face(), image=picture, landmarks_px=landmarks_px)
    engine = MeshEngine()
    prepared = engine.prepare(portrait, paste_back=True)
    face = library.poses.rows(slice(number, number + 1)).remove(landmarks_px[None])[0]
    points = landmarks_px[:, :2].astype(np.float64)
    x0, y0, x1, y1 = mouth_box(points, picture)
    still = MotionTrack(motion.blendshapes[rows], np.zeros((len(rows), 3), np.float32), motion.fps)
    for frame in engine.iter_frames(prepared, still):
        yield MouthPicture(
            frame[y0:y1, x0:x1], np.array([x0, y0], np.float64), points, face, library.measures.lips[number]
        )


def resting_frame(library: MouthLibrary) -> int:
    """Return the number of the frame whose mouth is drawn on: shut, sharp, and turned as most are."""
    measures, usable = library.measures, library.numbers
    turned = np.abs(measures.turns_deg[usable] - np.median(measures.turns_deg[usable], axis=0)).sum(axis=1)
    worse = measures.lips[usable, GAP] / 0.01 + turned / 5 + 2 * (1 - measures.detail[usable])
    return int(usable[worse.argmin()])
