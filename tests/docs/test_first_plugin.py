"""The page "Your first plugin": its tests pass and its application refuses, once the plugin is installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from doc_pages import environment, text

CALL = """
import asyncio, httpx2, json, shop

async def main():
    async with shop.nexus as nexus:
        transport = httpx2.ASGITransport(nexus.asgi_app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.post("/api/workflows/refund/execute", json={"order": "A1"})
            print(json.dumps([answer.status_code, answer.json()["detail"]]))

asyncio.run(main())
"""


@pytest.fixture(name="project")
def project_fixture(tmp_path: Path) -> Path:
    """Write the files that the page names, and install the distribution as pip would."""
    page = text("docs", "start", "first-plugin.md")
    for name, block in re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        tmp_path.joinpath(name).parent.mkdir(exist_ok=True)
        tmp_path.joinpath(name).write_text(block)
    project = tomllib.loads(tmp_path.joinpath("pyproject.toml").read_text())["project"]
    metadata = tmp_path / "nexus_closed-0.1.0.dist-info"
    metadata.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    metadata.joinpath("METADATA").write_text(
        head + "".join(f"Requires-Dist: {each}\n" for each in project["dependencies"])
    )
    points = project["entry-points"].items()
    metadata.joinpath("entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in each.items()) for group, each in points)
    )
    return tmp_path


def python(project: Path, *words: str, **more: str) -> Any:
    return subprocess.run(
        [sys.executable, *words], cwd=project, env=environment(PYTHONPATH=str(project), **more), capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.timeout(120)
def test_its_tests_pass(project: Path) -> None:
    done = python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 2  # its own, and those of the contract
    assert "warning" not in done.stdout


def test_its_application_refuses_and_counts(project: Path) -> None:
    done = python(project, "-c", CALL)
    assert json.loads(done.stdout) == [403, "The workflow refund is closed."], done.stderr
    called = python(project, "-m", "nexus_core", "--app", "shop.py", "execute", "refund", "--order", "A1")
    assert (called.returncode, called.stdout) == (77, "")
    assert "The workflow refund is closed." in called.stderr
    rows = "import sqlite3; print(sqlite3.connect('closed.db').execute('SELECT count(*) FROM refused').fetchone())"
    assert python(project, "-c", rows).stdout == "(2,)\n"


def test_it_fails_closed_where_its_import_fails(project: Path) -> None:
    project.joinpath("nexus_closed", "settings.py").write_text("raise OSError('out of order')")
    start = "from nexus_core import Nexus; Nexus(); print('made')"
    assert python(project, "-c", start).stdout == "made\n"
    refused = python(project, "-c", start, NEXUS_CLOSED_STRICT="1")
    assert refused.returncode == 1
    assert 'The required plugin "closed" is not active: its import failed' in refused.stderr
