"""Pictures that cannot work are refused with a reason, doubts can be overruled, and defects are noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from PIL import Image

from vortex.errors import NoFaceError
from vortex.face.detection import Face
from vortex.face.landmarks import (
    BROWS,
    CHEEK_SKIN,
    CHIN,
    INNER_LIPS,
    LEFT_EYE,
    LID_RINGS,
    LOWER_LIP_FLESH,
    MOUTH_CORNERS,
    NOSE_BRIDGE,
    NOSE_TIP,
    OUTER_EYE_CORNERS,
    RIGHT_EYE,
)
from vortex.face.portrait import detect_portrait
from vortex.face.pose import rotation_of_pose
from vortex.face.quality import judge_face
from vortex.types import F32, Frame, Portrait

EXAMPLES = Path(skimage.__file__).parent / "data"
COLOURS = {
    "blue": (90, 160, 220),
    "white": (235, 235, 235),
    "black": (35, 35, 40),
    "skin": (215, 180, 150),
    "lips": (150, 40, 50),
}
MASK = [227, 197, 447, 361, 397, CHIN, 172, 132]
"""Where a mask ends: bridge of the nose, cheeks, jaw."""


def drawn(image: Frame, mask: Frame, colour: F32) -> Frame:
    """Return the picture with ``colour`` where ``mask`` is 255."""
    part = mask[..., None].astype(np.float32) / 255
    return np.asarray(np.clip(image * (1 - part) + colour * part, 0, 255), np.uint8)


def masked(portrait: Portrait, colour: tuple[int, int, int]) -> Frame:
    """Return the picture with a cloth of one colour over mouth and nose, in the light of the face."""
    mask = np.zeros(portrait.image.shape[:2], np.uint8)
    outline = np.round(16 * portrait.landmarks_px[MASK, :2]).astype(np.int32)
    cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA, shift=4)
    light = cv2.GaussianBlur(portrait.image.mean(2), (0, 0), 20)[..., None] / 120
    return drawn(portrait.image, mask, np.asarray(np.array(colour) * light**0.5, np.float32))


def with_microphone(portrait: Portrait) -> Frame:
    """Return the picture with a black ball on a rod before the mouth."""
    left, right = portrait.landmarks_px[list(MOUTH_CORNERS), :2]
    radius = 0.65 * float(np.linalg.norm(right - left))
    x, y = ((left + right) / 2).astype(int).tolist()
    mask = np.zeros(portrait.image.shape[:2], np.uint8)
    cv2.circle(mask, (x, y), round(radius), 255, -1, cv2.LINE_AA)
    cv2.rectangle(mask, (round(x - radius / 3), y), (round(x + radius / 3), mask.shape[0]), 255, -1)
    return drawn(portrait.image, mask, np.full(3, 40, np.float32))


def with_fingers(portrait: Portrait) -> Frame:
    """Return the picture with four fingers of the face's own colour before the mouth."""
    left, right = portrait.landmarks_px[list(MOUTH_CORNERS), :2]
    width = float(np.linalg.norm(right - left))
    x, y = (left + right) / 2
    columns, rows = np.round(portrait.landmarks_px[CHEEK_SKIN, :2]).astype(int).T
    skin = 0.9 * np.median(portrait.image[rows, columns], axis=0)
    image = portrait.image
    for finger in range(4):
        height = round(y + (finger - 1.5) * 0.36 * width)
        for thickness, shade in ((0.37, 0.6), (0.3, 1.0)):
            mask = np.zeros(image.shape[:2], np.uint8)
            ends = (0, height + 10 * finger), (round(x + 0.8 * width), height)
            cv2.line(mask, *ends, 255, round(thickness * width), cv2.LINE_AA)
            image = drawn(image, mask, np.asarray(shade * skin, np.float32))
    return image


@pytest.mark.parametrize("colour", COLOURS)
def test_a_mask_of_any_colour_is_refused(hopper: Portrait, colour: str) -> None:
    with pytest.raises(
        NoFaceError, match=r"The mouth in 'me\.jpg' \(512x600\) looks covered.*set force_face"
    ):
        detect_portrait(masked(hopper, COLOURS[colour]), source_name="me.jpg")


def test_a_microphone_before_the_mouth_is_refused(hopper: Portrait) -> None:
    with pytest.raises(NoFaceError, match="looks covered"):
        detect_portrait(with_microphone(hopper))


def test_fingers_before_the_mouth_are_noted_or_refused(hopper: Portrait) -> None:
    notes = detect_portrait(with_fingers(hopper), force_face=True).notes
    assert any("the mouth may be covered" in note or "looks covered" in note for note in notes)


def test_a_doubt_can_be_overruled_and_becomes_a_note(hopper: Portrait) -> None:
    portrait = detect_portrait(masked(hopper, COLOURS["blue"]), force_face=True)
    (note,) = (note for note in portrait.notes if note.startswith("forced: "))
    assert "looks covered" in note


def grey(image: Frame) -> Frame:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def bearded(image: Frame, portrait: Portrait) -> Frame:
    """Return the picture with dark hair drawn around the mouth, but not on the lips."""
    points = np.round(16 * portrait.landmarks_px[:, :2]).astype(np.int32)
    hair, lips = np.zeros(image.shape[:2], np.uint8), np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(hair, [points[[NOSE_TIP, 425, 397, CHIN, 172, 205]]], 255, cv2.LINE_AA, shift=4)
    cv2.fillPoly(
        lips, [points[[61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91]]], 255, cv2.LINE_AA, shift=4
    )
    hairs = np.random.default_rng(0).normal((45, 33, 25), 12, size=image.shape)
    return drawn(image, np.minimum(hair, 255 - lips), np.asarray(hairs, np.float32))


ALTERED: dict[str, Callable[[Frame], Frame]] = {
    "as it is": lambda image: image,
    "grey": grey,
    "sepia": lambda image: np.asarray(grey(image) * [1.0, 0.9, 0.7], np.uint8),
    "dark": lambda image: np.asarray(image * 0.35, np.uint8),
    "pale": lambda image: np.asarray(128 + (image.astype(float) - 128) * 0.5, np.uint8),
    "half in shadow": lambda image: np.asarray(
        image * np.linspace(0.4, 1, image.shape[1])[None, :, None], np.uint8
    ),
    "under yellow light": lambda image: np.asarray(image * [1, 0.8, 0.5], np.uint8),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


@pytest.mark.parametrize("kind", ALTERED)
@pytest.mark.parametrize("who", ["hopper", "astronaut"])
def test_a_face_that_shows_its_mouth_is_accepted_in_any_light(hopper: Portrait, who: str, kind: str) -> None:
    image = hopper.image
    if who == "astronaut":
        image = np.asarray(Image.open(EXAMPLES / "astronaut.png").convert("RGB"), np.uint8)
    notes = detect_portrait(ALTERED[kind](image)).notes
    assert not [note for note in notes if "covered" in note or "locate" in note]


def test_a_beard_is_no_cover(hopper: Portrait) -> None:
    notes = detect_portrait(bearded(hopper.image, hopper)).notes
    assert not [note for note in notes if "covered" in note]


def test_a_mouth_outside_the_picture_is_refused_and_a_chin_noted(hopper: Portrait) -> None:
    points = hopper.landmarks_px
    for below in (points[NOSE_TIP, 1] + 12, points[INNER_LIPS[0], 1]):
        with pytest.raises(NoFaceError, match="The mouth of the face lies outside"):
            detect_portrait(hopper.image[: int(below)])
    mouth_only = hopper.image[: int((points[LOWER_LIP_FLESH[1], 1] + points[CHIN, 1]) / 2)]
    assert detect_portrait(mouth_only).notes == ("the chin lies outside the picture",)


def test_eyes_outside_the_picture_are_refused(hopper: Portrait) -> None:
    below = int(hopper.landmarks_px[NOSE_BRIDGE, 1]) + 25
    with pytest.raises(NoFaceError, match="The eyes lie outside"):
        detect_portrait(np.ascontiguousarray(hopper.image[below:]))


def test_a_blurred_face_is_noted_and_a_very_blurred_one_refused(hopper: Portrait) -> None:
    size = float(np.ptp(hopper.landmarks_px[:, 1]))
    sharp, soft, lost = (
        np.asarray(cv2.GaussianBlur(hopper.image, (0, 0), size / parts), np.uint8) for parts in (100, 30, 10)
    )
    assert detect_portrait(sharp).notes == ()
    assert "the face is blurred" in detect_portrait(soft).notes
    with pytest.raises(NoFaceError, match="sharper"):
        detect_portrait(lost)


def test_blur_is_judged_where_a_face_is_still_found(hopper: Portrait) -> None:
    size = float(np.ptp(hopper.landmarks_px[:, 1]))
    lost = np.asarray(cv2.GaussianBlur(hopper.image, (0, 0), size / 10), np.uint8)
    verdict = judge_face(lost, face_of(hopper), "'me.jpg'")
    assert any("blurred" in str(doubt) and "force_face" in str(doubt) for doubt in verdict.doubts)


def test_dark_glasses_are_noted_and_clear_ones_are_not(hopper: Portrait) -> None:
    mask = np.zeros(hopper.image.shape[:2], np.uint8)
    for ring in LID_RINGS.values():
        x, y = hopper.landmarks_px[ring, :2].mean(0).astype(int).tolist()
        cv2.ellipse(mask, (x, y), (34, 24), 0, 0, 360, 255, -1, cv2.LINE_AA)
    (note,) = detect_portrait(drawn(hopper.image, mask, np.full(3, 15, np.float32))).notes
    assert "the eyes look covered" in note
    assert hopper.notes == ()  # she wears glasses


def test_a_board_before_the_eyes_is_noted(hopper: Portrait) -> None:
    points = hopper.landmarks_px
    image = hopper.image.copy()
    top, bottom = int(points[BROWS["Left"], 1].min()), int(points[NOSE_BRIDGE, 1]) + 35
    image[top:bottom, 150:380] = (200, 190, 180)
    assert any("the eyes look covered" in note for note in detect_portrait(image).notes)


@pytest.mark.parametrize("force_face", [False, True])
def test_what_has_no_human_face_is_refused(force_face: bool) -> None:
    cat = np.asarray(Image.open(EXAMPLES / "chelsea.png").convert("RGB"), np.uint8)
    with pytest.raises(NoFaceError, match="No face found"):
        detect_portrait(cat, force_face=force_face)


def face_of(portrait: Portrait, **changed: F32) -> Face:
    """Return the face of a portrait, as it is detected, with some values changed."""
    rotation = rotation_of_pose(portrait.head_pose_deg)
    return replace(Face(portrait.landmarks_px, portrait.blendshapes, rotation), **changed)


def test_a_face_whose_landmarks_scatter_is_doubted(hopper: Portrait) -> None:
    height = float(hopper.landmarks_px[CHIN, 1] - hopper.landmarks_px[NOSE_BRIDGE, 1])
    for share, doubted, noted in ((0.005, False, False), (0.04, False, True), (0.1, True, False)):
        scatter = np.full(478, share * height, np.float32)
        verdict = judge_face(hopper.image, face_of(hopper, scatter_px=scatter), "it")
        assert any("cannot be located" in str(doubt) for doubt in verdict.doubts) == doubted
        assert any("hard to locate" in note for note in verdict.notes) == noted


def test_shut_eyes_and_a_wide_open_mouth_are_noted(hopper: Portrait) -> None:
    points = hopper.landmarks_px.copy()
    for upper, lower, *_ in (LEFT_EYE, RIGHT_EYE):
        points[lower] = points[upper] + [0, 1, 0]
    notes = judge_face(hopper.image, face_of(hopper, landmarks_px=points), "it").notes
    assert [note for note in notes if "eyes are shut" in note] and "wide open" not in " ".join(notes)
    points = hopper.landmarks_px.copy()
    width = float(np.linalg.norm(np.diff(points[list(OUTER_EYE_CORNERS), :2], axis=0)))
    points[INNER_LIPS[1], 1] += 0.3 * width
    notes = judge_face(hopper.image, face_of(hopper, landmarks_px=points), "it").notes
    assert [note for note in notes if "mouth is wide open" in note] and "shut" not in " ".join(notes)


@pytest.mark.parametrize(("yaw", "noted", "refused"), [(20, 0, 0), (-33, 1, 0), (33, 1, 0), (45, 0, 1)])
def test_a_turned_head_is_noted_before_it_is_refused(
    hopper: Portrait, yaw: float, noted: int, refused: int
) -> None:
    face = replace(face_of(hopper), rotation=rotation_of_pose(np.array([0.0, yaw, 0.0])))
    verdict = judge_face(hopper.image, face, "it")
    assert len([note for note in verdict.notes if f"turned {abs(yaw)} degrees" in note]) == noted
    assert len([fault for fault in verdict.faults if f"turned {abs(yaw)} degrees" in fault]) == refused


def test_a_small_face_is_noted_with_its_size(hopper: Portrait) -> None:
    small = np.asarray(Image.fromarray(hopper.image).resize((256, 300), Image.Resampling.LANCZOS), np.uint8)
    portrait = detect_portrait(small)
    size_px = float(np.ptp(portrait.landmarks_px[:468, :2], axis=0).max())
    assert portrait.notes == (f"the face is only {size_px:.0f} px wide; from 200 px on it looks sharp",)
