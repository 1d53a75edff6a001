"""Time limits end what takes too long, and models stay within their memory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image

from vortex.errors import InputError, OutOfMemoryError, StageTimeoutError
from vortex.extras.residency import ModelRegistry
from vortex.timeline import check_picture_path, plot_timeline
from vortex.watchdog import StoppedError, Watchdog


def test_a_stage_in_time_gives_its_result_or_its_error() -> None:
    watchdog = Watchdog()
    assert watchdog.run("speech", 5, lambda check: 7) == 7
    with pytest.raises(ZeroDivisionError):
        watchdog.run("speech", 5, lambda check: 1 // 0)
    with pytest.raises(TimeoutError, match="of its own"):

        def fail(check: object) -> None:
            raise TimeoutError("of its own")

        watchdog.run("speech", 5, fail)


def test_a_stage_that_takes_too_long_is_left_and_told_to_end() -> None:
    ended = threading.Event()

    def work(check: object) -> None:
        try:
            while True:
                check()  # type: ignore[operator]
        except StoppedError:
            ended.set()

    with pytest.raises(StageTimeoutError, match=r"'image' took longer than 0.1 s"):
        Watchdog().run("image", 0.1, work)
    assert ended.wait(5)


def test_the_deadline_ends_all_stages() -> None:
    watchdog = Watchdog(0.1)
    with pytest.raises(StageTimeoutError, match=r"not finished within 0.1 s"):
        watchdog.run("image", 60, lambda check: threading.Event().wait(1))


def test_the_first_failure_is_kept() -> None:
    watchdog = Watchdog()
    first = ValueError("first")
    watchdog.stop(StoppedError())
    watchdog.stop(first)
    watchdog.stop(KeyError("second"))
    assert watchdog.failure is first
    with pytest.raises(StoppedError):
        watchdog.check()


def test_models_are_loaded_once_and_the_longest_unused_goes_first() -> None:
    loads: list[str] = []
    told: list[str] = []
    registry = ModelRegistry({"cpu": 10 << 30}, tell=told.append)

    def use(name: str, gigabytes: int) -> None:
        def load() -> str:
            loads.append(name)
            return name.upper()

        with registry.use(name, gigabytes << 30, load) as model:
            assert model == name.upper()

    use("a", 4)
    use("b", 4)
    use("a", 4)
    assert loads == ["a", "b"]
    assert registry.loaded == ("b", "a")
    use("c", 6)
    assert registry.loaded == ("a", "c")
    assert told == [
        "loading a: needs 4.0 GB on cpu; 0.0 GB of 10.0 GB in use",
        "loading b: needs 4.0 GB on cpu; 4.0 GB of 10.0 GB in use",
        "loading c: needs 6.0 GB on cpu; 4.0 GB of 10.0 GB in use",
    ]
    with pytest.raises(OutOfMemoryError, match=r"d needs 11.0 GB of memory on cpu, and 10.0 GB may be used"):
        use("d", 11)


def test_a_model_in_use_is_waited_for_not_thrown_out() -> None:
    registry = ModelRegistry({"cpu": 10})
    inside, waited = threading.Event(), threading.Event()

    def other() -> None:
        with registry.use("b", 6, lambda: 2):
            waited.set()

    with registry.use("a", 6, lambda: 1):
        thread = threading.Thread(target=other)
        thread.start()
        assert not waited.wait(0.2)
        assert registry.loaded == ("a",)
        inside.set()
    assert waited.wait(5)
    thread.join()
    assert registry.loaded == ("b",)


def test_a_model_that_fails_to_load_gives_its_room_back() -> None:
    registry = ModelRegistry({"cpu": 10})
    with pytest.raises(ZeroDivisionError), registry.use("a", 10, lambda: 1 // 0):
        pass
    with registry.use("b", 10, lambda: 2) as model:
        assert model == 2


def test_the_timeline_shows_a_bar_for_each_stage(tmp_path: Path) -> None:
    plot_timeline(tmp_path / "t.png", {"speech": (0.0, 2.0), "image": (0.0, 1.0), "render": (2.0, 4.0)})
    with Image.open(tmp_path / "t.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(0x16, 0x42, 0x5B), (0x2A, 0x9D, 0x5C), (0xD1, 0x49, 0x5B)} <= colours
    with pytest.raises(InputError, match=r"does not end in \.png"):
        check_picture_path(tmp_path / "t.svg")
