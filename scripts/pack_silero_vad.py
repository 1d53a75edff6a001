"""Pack the network of vortex/data/silero_vad.npz from the wheel silero-vad (MIT), and what it must return.

Usage: pip download --no-deps silero-vad==6.2.3 && python scripts/pack_silero_vad.py silero_vad-6.2.3-*.whl

Also writes tests/data/speech/silero_vad.json: the probabilities of the published network, run by onnxruntime,
for the demo recording. The tests compare those of vortex with them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from vortex.media.audio import load_audio

MEMBER = "silero_vad/data/silero_vad_16k_op15.onnx"
SHA256 = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"
ROOT = Path(__file__).parents[1]
BLOCK, CONTEXT = 512, 64


def main(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read(MEMBER)
    if hashlib.sha256(packed).hexdigest() != SHA256:
        sys.exit(f"{wheel}: {MEMBER} is not the published file. Use silero-vad 6.2.3.")
    tensors = {
        tensor.name.removeprefix("model."): onnx.numpy_helper.to_array(tensor).astype(np.float16)
        for tensor in onnx.load_from_string(packed).graph.initializer
        # The Fourier transform under a Hann window needs no file.
        if tensor.name.endswith((".weight", ".bias", "weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    }
    np.savez_compressed(ROOT / "vortex" / "data" / "silero_vad.npz", **tensors)
    reference = ROOT / "tests" / "data" / "speech" / "silero_vad.json"
    expected = [round(value, 4) for value in published_probabilities(packed)]
    reference.write_text(json.dumps(expected) + "\n")


def published_probabilities(network: bytes) -> list[float]:
    """Return the probability of speech in each whole block of the demo recording."""
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    samples = load_audio(ROOT / "vortex" / "data" / "demo_speech.flac", 16_000).samples
    context, state, result = np.zeros((1, CONTEXT), np.float32), np.zeros((2, 1, 128), np.float32), []
    for start in range(0, len(samples) - BLOCK + 1, BLOCK):
        block = np.concatenate([context, samples[None, start : start + BLOCK]], axis=1)
        feeds = {"input": block, "state": state, "sr": np.array(16_000, np.int64)}
        output, state = session.run(None, feeds)
        context = block[:, -CONTEXT:]
        result.append(float(output[0, 0]))
    return result


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
