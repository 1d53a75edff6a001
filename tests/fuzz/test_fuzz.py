"""A short, seeded run of the fuzzer: every input gives a result or one of our errors."""

from __future__ import annotations

import random

import pytest
from fuzz import mutations
from targets import TARGETS, Target, accepts

from vortex.errors import InputError

INPUTS = {"speech": 12, "weights": 25}
ELSEWHERE = 150


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_gives_a_result_or_our_error(name: str) -> None:
    target = TARGETS[name]
    inputs = mutations(target.seeds(), target.text, random.Random(20261125))
    outcomes = {accepts(target, next(inputs)) for _ in range(INPUTS.get(name, ELSEWHERE))}
    # a target that refuses all it is given, or takes it, would test nothing
    assert outcomes == {True, False} or name == "speech"


def test_an_error_that_is_not_ours_is_a_finding() -> None:
    with pytest.raises(ZeroDivisionError):
        accepts(Target(lambda data: 1 // len(data), lambda: [b"x"]), b"")


def test_a_message_of_two_lines_is_a_finding() -> None:
    def refuse(data: bytes) -> None:
        raise InputError("one\ntwo")

    with pytest.raises(AssertionError, match="not one line"):
        accepts(Target(refuse, lambda: [b"x"]), b"")
