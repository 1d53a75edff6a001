"""The server held against its own description: Schemathesis makes up requests, and checks every answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

# no schema can say that a string of bytes is a picture with a face in it
IMPOSSIBLE = "positive_data_acceptance"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "server"
    command = [sys.executable, "-m", "vortex", "serve", "--port", "0", "--data", str(folder)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    match = re.search(r"http://\S+", server.stderr.readline())
    assert match
    yield match[0]
    server.terminate()
    _, said = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "Traceback" not in said
    assert list((folder / "incoming").iterdir()) == []


def post_json(address: str, **body: object) -> str:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["id"])


def test_every_answer_is_as_described(address: str, portrait: Path, speech: Path, tmp_path: Path) -> None:
    from base64 import b64encode

    known = post_json(address + "/v1/portraits", portrait_base64=b64encode(portrait.read_bytes()).decode())
    sound = b64encode(speech.read_bytes()).decode()
    video = post_json(address + "/v1/videos", portrait_id=known, speech_base64=sound, size_px=128)
    # so that not only what is not there is asked for
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.portrait_id" = "{known}"\n"path.video_id" = "{video}"\n')
    command = [Path(sys.executable).parent / "schemathesis", "--config-file", config, "run"]
    command += [address + "/openapi.json", "--exclude-checks", IMPOSSIBLE, "--max-examples", "10"]
    command += ["--generation-deterministic", "--suppress-health-check", "all", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:]
    match = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert match
    assert int(match[2]) == int(match[1]) > 200
