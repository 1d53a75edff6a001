"""One thread of linear algebra while anybody asks for it, whoever asks."""

from __future__ import annotations

import os
import threading

import pytest
from threadpoolctl import threadpool_info

from vortex.blas import single_blas_thread


def threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_the_last_user_restores_the_threads_of_blas() -> None:
    before = threads()
    first, second = single_blas_thread(), single_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(threads()) == {1}
    second.__exit__(None, None, None)
    assert threads() == before


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="with one core, BLAS has one thread anyway")
def test_a_thread_is_heeded_while_another_one_lives_that_asked_before() -> None:
    before, seen = threads(), []
    asked, done = threading.Event(), threading.Event()

    def ask_and_stay() -> None:
        with single_blas_thread():
            pass
        asked.set()
        done.wait(timeout=60)

    other = threading.Thread(target=ask_and_stay)
    other.start()
    asked.wait(timeout=60)
    with single_blas_thread():
        seen = threads()
    done.set()
    other.join()
    assert set(seen) == {1}
    assert threads() == before != seen
