"""Caches make each value once and stay within their bounds."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from vortex.errors import OutOfMemoryError
from vortex.runtime import memory
from vortex.runtime.memory import BoundedCache, ModelCache


def test_models_are_loaded_once_and_the_least_recently_used_is_dropped_first() -> None:
    loads: list[str] = []
    lines: list[str] = []
    cache = ModelCache(10, log=lines.append)

    def use(name: str, gigabytes: int) -> None:
        def load() -> str:
            loads.append(name)
            return name.upper()

        with cache.use(name, gigabytes << 30, load) as model:
            assert model == name.upper()

    use("a", 4)
    use("b", 4)
    use("a", 4)
    assert loads == ["a", "b"]
    assert tuple(cache._models) == ("b", "a")
    use("c", 6)
    assert tuple(cache._models) == ("a", "c")
    assert lines == [
        "loading a: needs 4.0 GB on cpu; 0.0 GB of 10.0 GB in use",
        "loading b: needs 4.0 GB on cpu; 4.0 GB of 10.0 GB in use",
        "loading c: needs 6.0 GB on cpu; 4.0 GB of 10.0 GB in use",
    ]
    with pytest.raises(OutOfMemoryError, match=r"d needs 11.0 GB of memory on cpu, and 10.0 GB may be used"):
        use("d", 11)


def test_a_model_in_use_is_not_dropped() -> None:
    cache = ModelCache(10)
    loaded = threading.Event()

    def other() -> None:
        with cache.use("b", 6 << 30, lambda: 2):
            loaded.set()

    with cache.use("a", 6 << 30, lambda: 1):
        thread = threading.Thread(target=other)
        thread.start()
        assert not loaded.wait(0.2)
        assert tuple(cache._models) == ("a",)
    assert loaded.wait(5)
    thread.join()
    assert tuple(cache._models) == ("b",)


def test_a_model_that_fails_to_load_takes_no_memory() -> None:
    cache = ModelCache(10)
    with pytest.raises(ZeroDivisionError), cache.use("a", 10 << 30, lambda: 1 // 0):
        pass
    with cache.use("b", 10 << 30, lambda: 2) as model:
        assert model == 2


def test_threads_that_need_the_same_model_load_it_once() -> None:
    cache = ModelCache(10)
    loading, go_on = threading.Event(), threading.Event()
    loads: list[str] = []
    models: list[str] = []

    def load() -> str:
        loads.append("a")
        loading.set()
        assert go_on.wait(5)
        return "A"

    def use() -> None:
        with cache.use("a", 10 << 30, load) as model:
            models.append(model)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert loading.wait(5)
    go_on.set()
    for thread in threads:
        thread.join()
    assert loads == ["a"]
    assert models == ["A"] * 4


def test_a_dropped_model_leaves_memory() -> None:
    class Model:
        pass

    cache = ModelCache(10)
    with cache.use("a", 6 << 30, Model) as model:
        reference = weakref.ref(model)
    del model
    assert reference() is not None
    with cache.use("b", 6 << 30, Model):
        assert reference() is None


def test_the_default_budget_is_four_fifths_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10 << 30)
    with pytest.raises(OutOfMemoryError, match=r"9\.0 GB of memory on cpu, and 8\.0 GB may be used"):
        ModelCache().use("a", 9 << 30, str).__enter__()


def test_threads_that_need_the_same_value_get_the_one_that_is_made_once() -> None:
    cache: BoundedCache[str, object] = BoundedCache(4)
    made: list[object] = []
    all_started = threading.Barrier(8)

    def make() -> object:
        threading.Event().wait(0.05)
        made.append(object())
        return made[-1]

    def get(_: int) -> object:
        all_started.wait(timeout=30)
        return cache.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(get, range(8)))
    assert len(made) == 1
    assert all(value is made[0] for value in values)


def test_values_of_different_keys_are_made_at_the_same_time() -> None:
    cache: BoundedCache[int, int] = BoundedCache(4)
    both_in_make = threading.Barrier(2)

    def get(key: int) -> int:
        return cache.get(key, lambda: both_in_make.wait(timeout=30) * 0 + key)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(get, (1, 2))) == [1, 2]


def test_the_least_recently_used_value_is_dropped() -> None:
    cache: BoundedCache[str, str] = BoundedCache(2)
    made: list[str] = []

    def get(key: str) -> str:
        return cache.get(key, lambda: made.append(key) or key.upper())

    assert [get(key) for key in "abacab"] == list("ABACAB")
    # "b" was the least recently used when "c" came; then "c" was, when "b" came back.
    assert made == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_a_failure_is_not_cached() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)
    assert len(cache) == 0
    assert cache.get("key", lambda: 7) == 7


def test_discarded_values_are_made_again() -> None:
    cache: BoundedCache[tuple[str, int], int] = BoundedCache(8)
    for name in "ab":
        for size in (1, 2):
            cache.get((name, size), lambda size=size: size)
    cache.discard(lambda key: key[0] == "a")
    assert len(cache) == 2
    assert cache.get(("a", 1), lambda: 100) == 100
    assert cache.get(("b", 1), lambda: 100) == 1
    cache.clear()
    assert len(cache) == 0
