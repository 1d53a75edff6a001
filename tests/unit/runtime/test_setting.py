"""The first holder applies a setting, the last one restores it; one BLAS thread; a quiet standard error."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import numpy  # noqa: F401 - it loads a BLAS
import pytest
from threadpoolctl import threadpool_info

from vortex.runtime.setting import RefCountedSetting, single_blas_thread


def test_the_last_holder_restores_the_setting() -> None:
    calls: list[str] = []

    def apply() -> object:
        calls.append("apply")
        return lambda: calls.append("restore")

    setting = RefCountedSetting(apply)  # type: ignore[arg-type]
    first, second = setting.held(), setting.held()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert calls == ["apply"]
    second.__exit__(None, None, None)
    assert calls == ["apply", "restore"]
    with setting.held():
        assert calls == ["apply", "restore", "apply"]
    assert calls[-1] == "restore"


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
def test_a_thread_can_limit_blas_while_another_one_lives_that_did_so_before() -> None:
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


ROUTINE = "W0000 00:00:1795975501.754176    8993 graph.cc:181] Sets acceleration."
FAILURE = "E0000 00:00:1795975501.754176    8993 graph.cc:181] No such model."


def standard_error(code: str) -> str:
    """Return what a new process that runs ``code`` writes to standard error."""
    start = "import os, subprocess, sys, threading\nfrom vortex.runtime.setting import native_log_filtered\n"
    command = [sys.executable, "-c", start + textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr


def test_routine_lines_are_dropped_within_the_block_only() -> None:
    assert (
        standard_error(f"""
        with native_log_filtered():
            os.write(2, b"WARNING: Logging before InitGoogle() is written to STDERR\\n")
            os.write(2, b"{ROUTINE}\\n")
            os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
        os.write(2, b"{ROUTINE}\\n")
    """)
        == f"{ROUTINE}\n"
    )


def test_all_other_lines_pass_in_their_order() -> None:
    assert (
        standard_error(f"""
        print("before", file=sys.stderr)
        with native_log_filtered():
            print("WARNING: of Python", file=sys.stderr)
            os.write(2, b"{FAILURE}\\n{ROUTINE}\\n")
            thread = threading.Thread(target=lambda: print("a thread", file=sys.stderr))
            thread.start()
            thread.join()
            subprocess.run("echo a child >&2", shell=True)
            sys.stderr.write("no end of line")
        print(", after", file=sys.stderr)
    """)
        == f"before\nWARNING: of Python\n{FAILURE}\na thread\na child\nno end of line, after\n"
    )


def test_a_child_that_lives_longer_than_the_block_keeps_its_standard_error() -> None:
    assert (
        standard_error("""
        with native_log_filtered():
            child = subprocess.Popen("read line; echo late >&2", shell=True, stdin=subprocess.PIPE)
        child.communicate(b"\\n")
        # The line may take a moment through the pipe.
        for thread in threading.enumerate():
            if thread.name == "vortex-native-log":
                thread.join()
    """)
        == "late\n"
    )


def test_threads_may_overlap_and_no_descriptor_stays_open() -> None:
    assert (
        standard_error(f"""
        def noisy():
            for _ in range(50):
                with native_log_filtered():
                    os.write(2, b"{ROUTINE}\\n")

        threads = [threading.Thread(target=noisy) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads + threading.enumerate()[1:]]
        print(os.dup(2), file=sys.stderr)
    """)
        == "3\n"
    )


def test_a_process_without_standard_error_works() -> None:
    code = """
        os.close(2)
        with native_log_filtered():
            pass
        print("done")
    """
    assert standard_error(code) == ""
