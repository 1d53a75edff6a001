"""Fuzz one target, or all, with inputs mutated from good ones: python tests/fuzz/fuzz.py [TARGET...]

Usage: python tests/fuzz/fuzz.py [TARGET...] [--inputs 10000] [--seed 1] [--coverage]

Each target runs in a process of its own, with its memory limited to 4 GiB and 20 s for an input; a crash, a
hang, an error that is not ours, a left-over file or growing memory is a finding, and the input is kept in
fuzz-findings/. ``--coverage`` lets atheris (pip install atheris) choose the inputs by the code they reach.
Exit status 1 if there is a finding.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from targets import TARGETS, Target, accepts

FINDINGS = Path("fuzz-findings")
MEMORY_BYTES = 4 << 30
INPUT_TIMEOUT_S = 20
GROWTH_BYTES = 64 << 20
"""What the resident set may gain between the first tenth of the inputs and the end."""


def main() -> int:
    """Run the targets and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; default all")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", action="store_true", help="let atheris choose the inputs")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = sorted(set(args.targets) - set(TARGETS))
    if unknown:
        parser.error(f"unknown target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if args.here:
        return _run(args.targets[0], args)
    failed = 0
    for name in args.targets or TARGETS:
        command = [sys.executable, __file__, name, "--here", f"--inputs={args.inputs}", f"--seed={args.seed}"]
        done = subprocess.run(command + ["--coverage"] * args.coverage)
        if done.returncode != 0:
            failed += 1
            print(f"{name:<10} FOUND SOMETHING (status {done.returncode}); last input: {_last(name)}")
    return 1 if failed else 0


def mutations(seeds: list[bytes], text: bool, chance: random.Random) -> Iterator[bytes]:
    """Yield inputs without end: the seeds, then seeds with a few changes each."""
    yield from seeds
    yield b""
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            _change(data, seeds, text, chance)
        yield bytes(data)


def _change(data: bytearray, seeds: list[bytes], text: bool, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    length = min(chance.choice((1, 1, 2, 4, 8, 64)), len(data) - at)
    kind = chance.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[at : at + length] = _junk(length, text, chance)
    elif kind == 2:
        del data[at : at + length]
    elif kind == 3:
        data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
    elif kind == 4:
        del data[at:]
    elif kind == 5:
        other = chance.choice(seeds)
        start = chance.randrange(len(other) + 1)
        data[at : at + length] = other[start : start + chance.choice((4, 32, 512))]
    else:
        data[at : at + 4] = chance.choice(
            (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x01")
        )


def _junk(length: int, text: bool, chance: random.Random) -> bytes:
    if text:
        alphabet = '0123456789.,@/-+eE"[]{}: nulltruefalseNaNInfinity\n\té字\x00'
        return "".join(chance.choice(alphabet) for _ in range(length)).encode()
    return chance.randbytes(length)


def _run(name: str, args: argparse.Namespace) -> int:
    """Fuzz one target in this process."""
    FINDINGS.mkdir(exist_ok=True)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _hang)
    target = TARGETS[name]
    if args.coverage:
        return _run_atheris(name, target, args)
    counts = {True: 0, False: 0}
    started_s, settled_bytes = time.monotonic(), 0
    inputs = mutations(target.seeds(), target.text, random.Random(args.seed))
    for index in range(args.inputs):
        counts[_try(name, target, next(inputs))] += 1
        if index == args.inputs // 10:
            settled_bytes = _resident_bytes()
    growth_bytes = _resident_bytes() - settled_bytes
    print(
        f"{name:<10}{args.inputs:>7} inputs: {counts[True]} results, {counts[False]} refusals, no finding; "
        f"memory {growth_bytes / 2**20:+.0f} MiB; {time.monotonic() - started_s:.0f} s",
        flush=True,
    )
    _input_file(name).unlink(missing_ok=True)
    return 1 if growth_bytes > GROWTH_BYTES else 0


def _run_atheris(name: str, target: Target, args: argparse.Namespace) -> int:
    try:
        import atheris
    except ImportError:
        print("fuzz: --coverage needs atheris. Run: pip install atheris", file=sys.stderr)
        return 2
    corpus = FINDINGS / f"corpus-{name}"
    corpus.mkdir(exist_ok=True)
    for index, seed in enumerate(target.seeds()):
        (corpus / f"seed{index}").write_bytes(seed)
    atheris.instrument_all()
    options = [
        f"-runs={args.inputs}",
        f"-seed={args.seed}",
        f"-timeout={INPUT_TIMEOUT_S}",
        "-rss_limit_mb=4096",
    ]
    atheris.Setup([sys.argv[0], str(corpus), *options], lambda data: _try(name, target, data) and None)
    atheris.Fuzz()
    return 0


def _try(name: str, target: Target, data: bytes) -> bool:
    # written first: a crash leaves no time for it
    _input_file(name).write_bytes(data)
    signal.alarm(INPUT_TIMEOUT_S)
    try:
        return accepts(target, data)
    finally:
        signal.alarm(0)


def _hang(*_: Any) -> None:
    raise TimeoutError(f"an input took more than {INPUT_TIMEOUT_S} s")


def _input_file(name: str) -> Path:
    return FINDINGS / f"{name}.input"


def _last(name: str) -> str:
    path = _input_file(name)
    return json.dumps({"file": str(path), "bytes": path.stat().st_size if path.exists() else None})


def _resident_bytes() -> int:
    # tracebacks of refusals hold what the refused work held, until cycles are collected
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
