"""Write the LivePortrait networks as ONNX files and compare each with torch, in ONNX Runtime on the CPU.

Usage: python scripts/export_onnx.py FOLDER [--precision fp32|fp16] [--only NAME ...]

Needs the extra ``onnx`` and the fetched weights (vortex weights fetch liveportrait); takes minutes. Prints
for each file the largest absolute difference to torch and the largest output, and exits with 1 if their ratio
is more than rounding explains.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""Largest difference over largest output."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the .onnx files go")
    parser.add_argument("--precision", choices=tuple(TOLERANCE), default="fp32")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some networks instead of all")
    args = parser.parse_args()

    from vortex.errors import VortexError

    try:
        return _export(args.folder, args.precision, args.only)
    except VortexError as exc:
        print(f"export_onnx: {exc}", file=sys.stderr)
        return 1


def _export(folder: Path, precision: str, only: list[str] | None) -> int:
    import torch

    # the exporter tells of operators of packages that nobody asked for
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    from vortex.engines.liveportrait.export import compare_onnx, export_onnx, questions
    from vortex.engines.liveportrait.networks import load_networks
    from vortex.errors import InputError
    from vortex.weights import weights_dir

    dtype = {"fp32": torch.float32, "fp16": torch.float16}[precision]
    networks = load_networks(weights_dir("liveportrait"), dtype=dtype)
    asked = {question.name: question for question in questions(networks)}
    if unknown := set(only or ()) - asked.keys():
        raise InputError(
            f"There is no network {', '.join(sorted(unknown))}; give some of {', '.join(asked)}."
        )
    wrong = []
    for name in only or asked:
        path = export_onnx(networks, asked[name], folder)
        found = compare_onnx(networks, asked[name], path)
        print(f"{path}: {found.error:.1e} from torch, of outputs up to {found.largest:.3g}", flush=True)
        if found.error > TOLERANCE[precision] * found.largest:
            wrong.append(name)
    if wrong:
        print(f"export_onnx: {', '.join(wrong)} differ by more than rounding; do not use", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
