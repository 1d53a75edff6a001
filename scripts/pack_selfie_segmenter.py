"""Take vortex/data/selfie_segmenter.tflite from MediaPipe's npm package (Apache-2.0).

Usage: npm pack @mediapipe/selfie_segmentation@0.1.1675465747
       python scripts/pack_selfie_segmenter.py mediapipe-selfie_segmentation-*.tgz
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from pathlib import Path

from vortex.face.matte import MODEL, MODEL_SHA256

MEMBER = "package/selfie_segmentation.tflite"


def main(package: Path) -> None:
    with tarfile.open(package) as archive:
        member = archive.extractfile(MEMBER)
        model = b"" if member is None else member.read()
    if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        sys.exit(f"{package}: {MEMBER} is not the published file. Use version 0.1.1675465747.")
    MODEL.write_bytes(model)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
