"""``nexus serve`` in processes of their own, and what speaks to them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from token_issuer import secret_token

APP = Path(__file__).with_name("app.py")
SECRET = "the secret of the sessions' tests, which is long enough"
START_SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """``nexus serve`` on ports of its own, which stay the same when it is killed and started again."""

    def __init__(self, options: dict[str, str], log: Path) -> None:
        self.ports = {name: free_port() for name in ("api", "cli", "mcp")}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        ports = {f"NEXUS_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("NEXUS_")}
        self._environment = inherited | ports | options
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "nexus_core", "serve", f"{APP}:nexus"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        for port in self.ports.values():
            while not _answers(port):
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < end, self._log.read_text()
                time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(20)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def token(name: str) -> str:
    return f"Bearer {secret_token(SECRET, sub=name)}"


async def command_line(process: Process, *arguments: str) -> tuple[int, str, str]:
    """Run ``nexus --connect`` on a process. Returns its exit code, and what it wrote."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NEXUS_")}
    command = [sys.executable, "-m", "nexus_core", "--connect", process.urls["cli"], *arguments]
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, "stdin": asyncio.subprocess.DEVNULL}
    run = await asyncio.create_subprocess_exec(*command, env=environment, **pipes)
    out, err = await asyncio.wait_for(run.communicate(), 30)
    assert run.returncode is not None
    return run.returncode, out.decode(), err.decode()
