"""Platforms with health checks, in this process and as ``nexus serve``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nexus_health.plugin import HealthPlugin

from nexus_core.testing import isolated_nexus

sys.path.insert(0, str(Path(__file__).parent))
from health_helpers import COMMAND, comes, monitor_of

START_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    for name in [each for each in os.environ if each.startswith("NEXUS_") or each == "REDIS_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(name="start")
async def start_fixture():
    """Start a platform with checkers, and wait until every check has answered once."""
    async with AsyncExitStack() as stack:

        async def start(*checkers, plugins=(), settles=True, **options):
            options = {"health_check_interval": 0.1, "health_check_timeout": 0.3} | options
            nexus = isolated_nexus(HealthPlugin, *plugins, **options)
            for checker in checkers:
                nexus.register_health_checker(checker)
            await stack.enter_async_context(nexus)
            if settles:
                await comes(lambda: monitor_of(nexus).has_settled)
            return nexus

        yield start


class Served:
    """``nexus serve`` of a file, with what its options ask for."""

    def __init__(self, folder, source, options):
        self.file = folder / "served.py"
        self.file.write_text(textwrap.dedent(source))
        self.log = folder / "served.log"
        ports = {"NEXUS_API_PORT": "0", "NEXUS_CLI_PORT": "0", "NEXUS_MCP_PORT": "0"}
        given = {f"NEXUS_{name.upper()}": str(value) for name, value in options.items()}
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", f"{self.file}:nexus"], env={**os.environ, **ports, **given}, stdout=stream,
                stderr=stream, cwd=folder,
            )  # fmt: skip

    def listens(self):
        """The address of each channel, once it listens."""
        end = time.monotonic() + START_SECONDS
        while not (found := re.findall(r"Listening on (\S+): (.+)", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)
        return {name: url for url, names in found for name in names.split(", ")}

    @property
    def url(self):
        return next(iter(self.listens().values()))

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture(name="serve")
def serve_fixture(tmp_path):
    """Serve an application given as source; options are set in the environment."""
    served = []

    def serve(source="from nexus_core import Nexus\nnexus = Nexus()\n", **options):
        folder = tmp_path / f"served{len(served)}"
        folder.mkdir()
        served.append(Served(folder, source, options))
        return served[-1]

    yield serve
    for each in served:
        each.end()


@pytest.fixture(name="doctor")
def doctor_fixture(tmp_path):
    """Run ``nexus doctor`` piped."""

    def run(*words, code=0, cwd=None, **variables):
        done = subprocess.run(
            [*COMMAND, *words, "doctor"], capture_output=True, text=True, timeout=60, cwd=cwd or tmp_path,
            env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
