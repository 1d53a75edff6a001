#!/usr/bin/env python3
"""Fetch the LivePortrait weights: a thin wrapper over vortex.weights, for where the command is missing."""

from __future__ import annotations

import sys

from vortex.errors import VortexError
from vortex.weights import describe_weights, fetch_weights, verify_weights


def show(stage: str, completed: int, total: int) -> None:
    print(f"\r{stage} {completed / 2**20:.0f}/{total / 2**20:.0f} MiB", end="", file=sys.stderr, flush=True)


def main() -> int:
    try:
        print(describe_weights("liveportrait"))
        fetch_weights("liveportrait", hook=show if sys.stderr.isatty() else None)
        print(f"\nverified: {verify_weights('liveportrait')}")
    except VortexError as exc:
        print(f"vortex: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nvortex: stopped; run it again to go on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
