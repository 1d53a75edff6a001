"""Motion templates: ours comes back as it was, published ones are read, and nothing in a file is executed."""

from __future__ import annotations

import collections
import io
import os
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tracks import moving_track

from vortex.errors import InputError
from vortex.motion import template
from vortex.motion.template import is_template, load_template, save_template

FIELDS = ("exp", "rotation", "scale", "translation", "eye_ratios", "lip_ratio")


@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001)])
def test_a_template_comes_back_as_it_was(tmp_path: Path, fps: Fraction) -> None:
    rest = moving_track(seed=9).part(0, 1)
    track = replace(moving_track(), neutral=rest, fps=Fraction(fps))
    save_template(tmp_path / "a.npz", track)
    found = load_template(tmp_path / "a.npz")
    assert found.fps == fps
    assert is_template((tmp_path / "a.npz").read_bytes()[:16])
    for name in FIELDS:
        np.testing.assert_allclose(getattr(found, name), getattr(track, name), atol=2e-7)
        np.testing.assert_allclose(getattr(found.reference, name), getattr(rest, name), atol=2e-7)


def test_a_template_without_a_neutral_frame_keeps_its_first_one(tmp_path: Path) -> None:
    bare = replace(moving_track(), eye_ratios=None, lip_ratio=None)
    save_template(tmp_path / "a.npz", bare)
    found = load_template(tmp_path / "a.npz")
    assert found.eye_ratios is None and found.lip_ratio is None
    np.testing.assert_allclose(found.reference.exp, bare.exp[:1], atol=1e-7)


def arrays() -> dict[str, Any]:
    """Return the arrays of a good template."""
    file = io.BytesIO()
    track = moving_track()
    fields = {name: np.asarray(getattr(track, name), np.float32) for name in FIELDS}
    fields |= {f"neutral_{name}": array[0] for name, array in fields.items()}
    np.savez(file, schema=template.SCHEMA, version=1, fps="25", **fields)
    file.seek(0)
    with np.load(file) as stored:
        return dict(stored)


def changed(**changes: Any) -> dict[str, Any]:
    return {name: array for name, array in (arrays() | changes).items() if array is not None}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no schema": (changed(schema=None), "no motion template of vortex"),
    "another schema": (changed(schema="poem"), "no motion template of vortex"),
    "a later version": (changed(version=2), "version 2; this vortex reads 1"),
    "a missing array": (changed(scale=None), "scale is missing"),
    "no neutral frame": (changed(neutral_exp=None), "exp is missing"),
    "a rate of none": (changed(fps="0"), "vortex renders 1 to 120"),
    "a wrong shape": (
        changed(exp=np.zeros((6, 20, 3))),
        r"exp has shape \(6, 20, 3\) of float64; numbers of \(frames, 21, 3\)",
    ),
    "texts": (changed(exp=np.full((6, 21, 3), "a")), "of <U1; numbers of"),
    "unequal lengths": (changed(scale=np.ones(5)), "not as many of each kind"),
    "no frames": (changed(**{name: arrays()[name][:0] for name in FIELDS}), "no frames"),
    "not a number": (changed(exp=np.full((6, 21, 3), np.nan)), "exp has numbers that no face has"),
    "huge numbers": (changed(translation=np.full((6, 3), 1e6)), "translation has numbers"),
    "no rotation": (changed(rotation=np.tile(2 * np.eye(3), (6, 1, 1))), "what is no rotation"),
    "a mirror": (changed(rotation=np.tile(-np.eye(3), (6, 1, 1))), "what is no rotation"),
    "no size": (changed(scale=np.zeros(6)), r"scale is below 0\.01"),
    "complex numbers": (changed(exp=np.zeros((6, 21, 3), complex)), "holds complex128"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_template_is_refused_with_what_is_wrong(tmp_path: Path, case: str) -> None:
    content, message = WRONG[case]
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(InputError, match=rf"^Template '.*a\.npz': .*{message}"):
        load_template(tmp_path / "a.npz")


class Marker:
    """A pickle of this calls a function that makes a folder when it is loaded."""

    def __init__(self, path: Path, function: Callable[..., Any] = os.mkdir) -> None:
        self.path, self.function = path, function

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return self.function, (str(self.path),)


def published(frames: int = 4, *, rotation: str = "R", prefix: str = "c_") -> dict[str, Any]:
    """Return a template as LivePortrait's pipeline pickles it."""
    track = moving_track(frames)
    motion = [
        {
            "scale": np.float32(track.scale[i]).reshape(1, 1),
            rotation: track.rotation[i][None].astype(np.float32),
            "exp": track.exp[i][None],
            "t": track.translation[i][None],
            "x_s": np.zeros((1, 21, 3), np.float32),
        }
        for i in range(frames)
    ]
    assert track.eye_ratios is not None and track.lip_ratio is not None
    return {
        "n_frames": frames,
        "output_fps": 25,
        "motion": motion,
        f"{prefix}eyes_lst": [row[None] for row in track.eye_ratios],
        f"{prefix}lip_lst": [np.float32(value).reshape(1, 1) for value in track.lip_ratio],
    }


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("names", [("R", "c_"), ("R_d", "c_d_")])
def test_a_published_template_is_read(tmp_path: Path, protocol: int, names: tuple[str, str]) -> None:
    content = published(rotation=names[0], prefix=names[1])
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert is_template(path.read_bytes()[:16])
    found, track = load_template(path), moving_track(4)
    assert found.fps == 25
    for name in FIELDS:
        np.testing.assert_allclose(getattr(found, name), getattr(track, name), atol=3e-7)
    np.testing.assert_array_equal(found.reference.exp, found.exp[:1])


def test_names_of_older_and_newer_numpy_are_known(tmp_path: Path) -> None:
    """Templates were written by numpy 1, whose modules numpy 2 renamed."""
    content = pickle.dumps(published(), 2)
    old, new = b"numpy.core.multiarray", b"numpy._core.multiarray"
    assert (old in content) != (new in content)
    (tmp_path / "a.pkl").write_bytes(
        content.replace(new, old) if new in content else content.replace(old, new)
    )
    assert len(load_template(tmp_path / "a.pkl")) == 4


def test_numbers_may_be_scalars_lists_and_big_endian(tmp_path: Path) -> None:
    content = published()
    for frame in content["motion"]:
        frame["scale"] = np.float32(frame["scale"][0, 0])
        frame["t"] = frame["t"].ravel().tolist()
        frame["exp"] = np.asfortranarray(frame["exp"].astype(">f4"))
    content["output_fps"] = np.float64(29.97)
    content["motion"] = [collections.OrderedDict(frame) for frame in content["motion"]]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    found = load_template(tmp_path / "a.pkl")
    assert found.fps == Fraction(30000, 1001)
    np.testing.assert_allclose(found.exp, moving_track(4).exp, atol=1e-7)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    path, trace = tmp_path / "a.pkl", tmp_path / "trace"
    content = published()
    content["motion"][0]["exp"] = Marker(trace)
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(InputError, match=r"refused: it wants to use \w+\.mkdir, which is not data"):
        load_template(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists(), "the same file would have run with the ordinary unpickler"


HARMFUL = {
    "eval": b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
    "an attribute": b"\x80\x02cbuiltins\ngetattr\n.",
    "numpy's loader": b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00a\x85R.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bdtype.\\x00\\x93.",
    "an extension": b"\x80\x02\x82\x01.",
    "a reference": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a changed function": b"\x80\x02cnumpy.core.multiarray\nscalar\n}X\x01\x00\x00\x00aK\x01sb.",
    "a changed class": b"\x80\x02cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
    "an array of objects": pickle.dumps(np.array([{}], dtype=object), 2),
    "a cut": pickle.dumps(published(), 2)[:-200],
    "text": b"\x80\x02X\x01\x00\x00\x00a.",
    "an endless memory": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "a huge array": b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft\x85R.",
}


@pytest.mark.parametrize("case", HARMFUL)
def test_what_is_no_data_is_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(HARMFUL[case])
    with pytest.raises(InputError, match=r"Template '.*a\.pkl'"):
        load_template(path)


def test_a_pickle_leaves_the_reader_as_it_was(tmp_path: Path) -> None:
    for content in HARMFUL.values():
        (tmp_path / "a.pkl").write_bytes(content)
        with pytest.raises(InputError):
            load_template(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(published()))
    assert len(load_template(tmp_path / "a.pkl")) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("motion"), "no list 'motion' of frames"),
        (lambda c: c["motion"].append(3), "no list 'motion' of frames"),
        (lambda c: c.update(motion=[]), "no list 'motion' of frames"),
        (lambda c: c["motion"][1].pop("R"), "a frame has no R or R_d as numbers"),
        (lambda c: c["motion"][1].update(exp=np.zeros(5)), "a frame has no exp as numbers of shape"),
        (lambda c: c["motion"][1].update(scale="big"), "a frame has no scale as numbers"),
        (lambda c: c["motion"][1].update(scale=None), "a frame has no scale as numbers"),
        (lambda c: c["motion"][1].update(exp=np.full((1, 21, 3), np.inf)), "exp has numbers"),
        (lambda c: c.update(output_fps=0), "vortex renders 1 to 120"),
        (lambda c: c.update(output_fps=[1]), "give a number such as 24"),
    ],
)
def test_a_published_template_is_checked(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    content = published()
    change(content)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message):
        load_template(tmp_path / "a.pkl")


def test_openings_of_another_length_are_left_out(tmp_path: Path) -> None:
    content = published()
    content["c_eyes_lst"].pop()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    found = load_template(tmp_path / "a.pkl")
    assert found.eye_ratios is None and found.lip_ratio is not None


def test_the_checks_come_before_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may claim arrays of any size."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 21, 3)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("exp.npy", header.getvalue())
    with pytest.raises(InputError, match=r"exp\.npy holds float32 of shape"):
        load_template(tmp_path / "a.npz")
    monkeypatch.setattr(template, "MAX_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("exp.npy", bytes(100_000))
    assert (tmp_path / "b.npz").stat().st_size < 1000
    with pytest.raises(InputError, match="MiB unpacked"):
        load_template(tmp_path / "b.npz")
    (tmp_path / "c.pkl").write_bytes(b"\x80\x02" + bytes(1000))
    with pytest.raises(InputError, match="has more than"):
        load_template(tmp_path / "c.pkl")


def test_files_that_are_not_there_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.npz' cannot be read"):
        load_template(tmp_path / "gone.npz")
    with pytest.raises(InputError, match=r"does not end in \.npz"):
        save_template(tmp_path / "a.pkl", moving_track())
    with pytest.raises(InputError, match="does not exist"):
        save_template(tmp_path / "no" / "a.npz", moving_track())


def test_pickles_of_this_test_are_what_they_say() -> None:
    for name in ("eval", "an attribute", "an extension", "a reference"):
        assert list(pickletools.genops(HARMFUL[name]))
