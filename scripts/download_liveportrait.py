#!/usr/bin/env python3
"""Fetch and verify the LivePortrait weights, like ``vortex weights fetch liveportrait``."""

from __future__ import annotations

import sys

from vortex.errors import VortexError
from vortex.weights.cache import describe_weights, verify_weights
from vortex.weights.fetch import fetch_weights


def show(stage: str, completed: int, total: int) -> None:
    print(f"\r{stage} {completed / 2**20:.0f}/{total / 2**20:.0f} MiB", end="", file=sys.stderr, flush=True)


def main() -> int:
    try:
        print(describe_weights("liveportrait"))
        fetch_weights("liveportrait", on_progress=show if sys.stderr.isatty() else None)
        print(f"\nverified: {verify_weights('liveportrait')}")
    except VortexError as exc:
        print(f"vortex: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nvortex: stopped; run it again to continue the download", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
