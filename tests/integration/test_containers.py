"""The container files, as far as they can be held to facts without a Docker engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from vortex.cli.serve import read_settings

ROOT = Path(__file__).parents[2]
FILES = ("Dockerfile", "Dockerfile.cuda")
HADOLINT = Path(sys.executable).parent / "hadolint"
KEY = "a-key-of-more-than-sixteen-characters"


def instructions(name: str) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.M).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word
    ]


def environment(name: str) -> dict[str, str]:
    """Return what the last stage sets."""
    found: dict[str, str] = {}
    for word, rest in instructions(name):
        if word == "FROM":
            found.clear()
        if word == "ENV":
            found |= dict(item.split("=", 1) for item in shlex.split(rest))
    return found


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed (extra 'dev')")
@pytest.mark.parametrize("name", FILES)
def test_hadolint_has_nothing_to_say(name: str) -> None:
    done = subprocess.run([HADOLINT, "--no-color", ROOT / name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_sent_to_the_builder(name: str) -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in instructions(name):
        if word == "COPY" and not rest.startswith("--from"):
            for source in shlex.split(rest)[:-1]:
                assert (ROOT / source).exists(), source
                assert source in sent, source


@pytest.mark.parametrize("name", FILES)
def test_the_system_libraries_are_those_of_the_setup(name: str) -> None:
    needed = set(re.findall(r'"lib\S+": "(lib\S+)"', (ROOT / "scripts" / "setup").read_text()))
    installed = {part for word, rest in instructions(name) if word == "RUN" for part in rest.split()}
    assert len(needed) == 4
    assert needed <= installed


@pytest.mark.parametrize("name", FILES)
def test_the_environment_makes_a_server_that_can_be_reached_with_a_key_only(name: str) -> None:
    variables = environment(name)
    arguments: Any = defaultdict(lambda: None)
    options = Namespace()
    options.__dict__.update({key: arguments[key] for key in read_settings_names()})
    settings = read_settings(options, {**variables, "VORTEX_API_KEY": KEY})
    assert (settings.host, settings.port) == ("0.0.0.0", 8321)
    assert str(settings.data_dir) == "/data"
    assert settings.engine == ("liveportrait" if "cuda" in name else "mesh")
    assert ("EXPOSE", "8321") in instructions(name)
    assert ("USER", "10001") in instructions(name)
    # without a key it does not start, and says so in one line
    env = {**os.environ, **variables, "PATH": os.environ["PATH"], "VORTEX_ENGINE": "mesh"}
    done = subprocess.run(
        [sys.executable, "-m", "vortex", "serve"], capture_output=True, text=True, env=env, timeout=60
    )
    assert done.returncode == 2
    assert "VORTEX_API_KEY" in done.stderr


def test_kernels_can_be_compiled_where_only_volumes_can_be_written() -> None:
    """Triton builds its launcher with a C compiler, and keeps what it built."""
    installed = {
        part for word, rest in instructions("Dockerfile.cuda") if word == "RUN" for part in rest.split()
    }
    assert {"gcc", "libc6-dev"} <= installed
    (volumes,) = (json.loads(rest) for word, rest in instructions("Dockerfile.cuda") if word == "VOLUME")
    kept = Path(environment("Dockerfile.cuda")["TRITON_CACHE_DIR"])
    assert any(kept.is_relative_to(volume) for volume in volumes)


def read_settings_names() -> list[str]:
    from vortex.cli.main import build_parser

    return list(vars(build_parser().parse_args(["serve"])))


def test_compose_opens_nothing_but_loopback_and_keeps_nothing_but_volumes() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert service["ports"] == ["127.0.0.1:8321:8321"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["environment"]["VORTEX_API_KEY"].startswith("${VORTEX_API_KEY:?")
        for volume in service["volumes"]:
            assert volume.split(":")[0] in compose["volumes"]
        build = service["build"]
        assert (ROOT / (build["dockerfile"] if isinstance(build, dict) else "Dockerfile")).exists()


def test_videos_are_made_where_only_the_data_can_be_written(
    portrait: Path, speech: Path, tmp_path: Path
) -> None:
    """As in the container: another user, no home, nothing of the installation can be written."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to become a user who may write nothing")
    tmp_path.chmod(0o777)
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    out = tmp_path / "out.mp4"
    command = [
        "setpriv",
        "--reuid",
        "10001",
        "--regid",
        "10001",
        "--clear-groups",
        sys.executable,
        "-m",
        "vortex",
    ]
    command += ["animate", str(portrait), str(speech), "-o", str(out), "--engine", "mesh", "--size", "128"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if "Permission denied" in done.stderr and not out.exists():
        pytest.skip("the interpreter itself cannot be read by another user here")
    assert done.returncode == 0, done.stderr
    assert out.stat().st_uid == 10001
