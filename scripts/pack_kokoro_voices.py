"""Pack the voices of vortex/data/kokoro_voices.npz from the npm package kokoro-js (Apache-2.0).

Usage: npm pack kokoro-js@1.2.1 && python scripts/pack_kokoro_voices.py kokoro-js-1.2.1.tgz
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from pathlib import Path

import numpy as np

SHA256 = {
    "af_heart": "d583ccff3cdca2f7fae535cb998ac07e9fcb90f09737b9a41fa2734ec44a8f0b",
    "am_michael": "1d1f21dd8da39c30705cd4c75d039d265e9bc4a2a93ed09bc9e1b1225eb95ba1",
    "bf_emma": "669fe0647f9dd04fcab92f1439a40eeb4c8b4ab1f82e4996fe3d918ce4a63b73",
    "bm_george": "c4b235a4c1f2cd3b939fed08b899ce9385638b763f7b73a59616c4fc9bd6c9bc",
}
OUT = Path(__file__).parents[1] / "vortex" / "data" / "kokoro_voices.npz"


def main(package: Path) -> None:
    voices = {}
    with tarfile.open(package) as archive:
        for name, expected in SHA256.items():
            member = archive.extractfile(f"package/voices/{name}.bin")
            data = member.read() if member else b""
            if hashlib.sha256(data).hexdigest() != expected:
                sys.exit(f"{package}: {name}.bin is not the published file. Use kokoro-js 1.2.1.")
            # Half precision halves the file and changes no style value by more than 0.05 %.
            voices[name] = np.frombuffer(data, "<f4").reshape(510, 256).astype(np.float16)
    np.savez_compressed(OUT, **voices)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
