"""The public conformance suite of the protocol, against the plugin's own channel and server classes.

It needs Node.js and npm. On Node.js below 22 one import of the suite, used by other commands of it, is taken out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUITE = "@modelcontextprotocol/conformance"
VERSION = "0.2.0-alpha.12"
EXPECTED = {"2025-11-25": 84, "2026-07-28": 152}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def missing(reason):
    if os.environ.get("CI") or os.environ.get("NEXUS_REQUIRE_NODE"):
        pytest.fail(f"{reason} (CI or NEXUS_REQUIRE_NODE is set, so this is no reason to skip)")
    pytest.skip(reason)


def cache():
    root = next((each for each in HERE.parents if (each / ".git").exists()), None)
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) if root is None else root / ".cache"
    return base / f"mcp-conformance-{VERSION}"


def install(folder):
    """Install the suite, once, and return its script."""
    script = folder / "node_modules" / SUITE / "dist" / "index.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"{SUITE}@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
        if done.returncode:
            missing(f"npm can't install {SUITE}@{VERSION}: {done.stderr[-500:]}")
    return script


def for_this_node(script):
    """Return a script that runs on the installed Node.js."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) >= 22:
        return script
    text = script.read_text()
    name = re.search(r"globSync as ([A-Za-z_$]+),", text)
    if name is None:
        return script
    patched = script.with_name("index.before-node22.js")
    hashbang, _, rest = text.replace(name[0], "", 1).partition("\n")
    patched.write_text(f"{hashbang}\nconst {name[1]}=()=>[];\n{rest}")
    return patched


@pytest.fixture(scope="module")
def suite():
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    return for_this_node(install(cache()))


@pytest.fixture(scope="module")
def address():
    server = subprocess.Popen([sys.executable, HERE / "fixture_server.py"], stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


@pytest.mark.parametrize("version", EXPECTED)
def test_public_conformance_suite(suite, address, version, tmp_path):
    command = ["node", suite, "server", "--url", address, "--suite", "all", "--spec-version", version]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    total = re.search(r"Total: (\d+) passed, (\d+) failed", summary)
    assert total is not None, done.stdout[-2000:] + done.stderr[-2000:]
    assert (int(total[1]), int(total[2])) == (EXPECTED[version], 0), summary
    assert done.returncode == 0
