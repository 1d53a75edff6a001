"""The container files, as far as they can be checked without a Docker engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.paths import ROOT

from vortex.cli.main import build_parser
from vortex.cli.serve import read_settings

FILES = ("Dockerfile", "Dockerfile.cuda")
HADOLINT = Path(sys.executable).parent / "hadolint"
KEY = "a-key-of-more-than-sixteen-characters"


def instructions(name: str) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.M).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word
    ]


def environment(name: str) -> dict[str, str]:
    """Return the variables that the last stage sets."""
    found: dict[str, str] = {}
    for word, rest in instructions(name):
        if word == "FROM":
            found.clear()
        if word == "ENV":
            found |= dict(item.split("=", 1) for item in shlex.split(rest))
    return found


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed (extra 'dev')")
@pytest.mark.parametrize("name", FILES)
def test_hadolint_has_no_complaint(name: str) -> None:
    done = subprocess.run([HADOLINT, "--no-color", ROOT / name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", FILES)
def test_copied_files_exist_and_are_sent_to_the_builder(name: str) -> None:
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
def test_the_environment_makes_a_server_that_needs_a_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = environment(name)
    for variable, value in {**variables, "VORTEX_API_KEY": KEY}.items():
        if variable.startswith("VORTEX_"):
            monkeypatch.setenv(variable, value)
    settings = read_settings(build_parser().parse_args(["serve"]))
    for variable in [name for name in os.environ if name.startswith("VORTEX_")]:
        monkeypatch.delenv(variable)
    assert (settings.host, settings.port) == ("0.0.0.0", 8321)
    assert str(settings.data) == "/data"
    assert settings.engine == ("liveportrait" if "cuda" in name else "mesh")
    assert ("EXPOSE", "8321") in instructions(name)
    assert ("USER", "10001") in instructions(name)
    # Without a key it does not start, and says so in one line.
    env = {**os.environ, **variables, "PATH": os.environ["PATH"], "VORTEX_ENGINE": "mesh"}
    done = subprocess.run(
        [sys.executable, "-m", "vortex", "serve"], capture_output=True, text=True, env=env, timeout=60
    )
    assert done.returncode == 2
    assert "VORTEX_API_KEY" in done.stderr


def test_kernels_can_be_compiled_where_only_volumes_can_be_written() -> None:
    """Triton builds its launcher with a C compiler, and caches what it built."""
    installed = {
        part for word, rest in instructions("Dockerfile.cuda") if word == "RUN" for part in rest.split()
    }
    assert {"gcc", "libc6-dev"} <= installed
    (volumes,) = (json.loads(rest) for word, rest in instructions("Dockerfile.cuda") if word == "VOLUME")
    kept = Path(environment("Dockerfile.cuda")["TRITON_CACHE_DIR"])
    assert any(kept.is_relative_to(volume) for volume in volumes)


def test_compose_publishes_only_loopback_and_writes_only_to_volumes() -> None:
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
    """As in the container: another user, no home, and an installation that cannot be written."""
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
