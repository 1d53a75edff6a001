"""Build TensorRT engines from the files of scripts/export_onnx.py, with trtexec on this machine's GPU.

Usage: python scripts/build_tensorrt.py FOLDER [--most-frames 4]

Each NAME.onnx becomes NAME.engine in the same folder, for 1 to ``--most-frames`` frames at once. The engine
keeps the types of the file (export with --precision fp16 for half precision); types of TensorRT's choice
would round sampling grids. trtexec is part of TensorRT, version 10 or newer. We have not built any engine
yet.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the .onnx files are")
    parser.add_argument("--most-frames", type=int, default=4, help="frames at once; default 4")
    args = parser.parse_args()
    files = sorted(args.folder.glob("*.onnx"))
    if not files:
        return _fail(f"'{args.folder}' has no .onnx files; run python scripts/export_onnx.py {args.folder}")
    trtexec = shutil.which("trtexec")
    if trtexec is None:
        return _fail(
            "trtexec is not on the PATH. Install TensorRT 10 or newer (developer.nvidia.com/tensorrt), and "
            "add its folder bin to the PATH"
        )
    for path in files:
        if subprocess.run([trtexec, *arguments(path, args.most_frames)]).returncode:
            return _fail(f"trtexec could not build '{path}'; its output above says why")
    return 0


def arguments(path: Path, most_frames: int) -> list[str]:
    """Return trtexec's arguments: the file, its types, and the range of every axis of free length."""
    import onnx

    shapes: dict[str, tuple[bool, list[int]]] = {}
    for tensor in onnx.load(path, load_external_data=False).graph.input:
        sizes = tensor.type.tensor_type.shape.dim
        shapes[tensor.name] = bool(sizes[0].dim_param), [size.dim_value for size in sizes[1:]]

    def at(frames: int) -> str:
        return ",".join(
            f"{name}:{'x'.join(map(str, [frames, *rest]))}" for name, (free, rest) in shapes.items() if free
        )

    return [
        f"--onnx={path}",
        f"--saveEngine={path.with_suffix('.engine')}",
        "--stronglyTyped",
        f"--minShapes={at(1)}",
        f"--optShapes={at(most_frames)}",
        f"--maxShapes={at(most_frames)}",
    ]


def _fail(message: str) -> int:
    print(f"build_tensorrt: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
