"""One file in ``vortex/server/routes`` adds a route: nothing else has to be changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.pages import python_block

import vortex

ROUTE = python_block("contributing.md", "A route of the server: one file")

CLIENT = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from vortex.server.app import create_app
from vortex.server.context import ServerContext
from vortex.server.settings import ServerSettings

context = ServerContext(ServerSettings(data=Path(sys.argv[1])))
with TestClient(create_app(context), base_url="http://127.0.0.1") as client:
    answer = client.get("/v1/about")
    print(answer.status_code, answer.text, "/v1/about" in client.get("/openapi.json").json()["paths"])
"""


def get_about(package: Path, data: Path) -> str:
    """Return what a server of this copy of the package answers, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(data)],
        env={**os.environ, "PYTHONPATH": str(package)},
        cwd=package,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_one_file_adds_a_route(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(
        Path(vortex.__file__).parent, package / "vortex", ignore=shutil.ignore_patterns("__pycache__")
    )
    assert get_about(package, tmp_path / "before").startswith("404 ")
    (package / "vortex/server/routes/about.py").write_text(ROUTE)
    expected = f'200 {{"version":"{vortex.__version__}","engine":"mesh"}} True'
    assert get_about(package, tmp_path / "after") == expected
