"""Servers as processes: started, waited for, measured from outside, and ended."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from load import Load, generate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PROGRAMS = Path(__file__).parent / "programs"
START_SECONDS = 60.0


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A program that listens.

    Args:
        program: Its file in ``programs/``.
        arguments: What follows ``--port``.
        python: The interpreter, that of another environment for other products.
    """

    def __init__(self, program: str, *arguments: str, python: str = sys.executable) -> None:
        self.port = free_port()
        self._complaints = tempfile.TemporaryFile()  # a pipe that nobody reads would stop a server that logs a lot
        self.spawned_at = time.perf_counter()
        self.process = subprocess.Popen(
            [python, str(PROGRAMS / program), "--port", str(self.port), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._complaints, env=environment(),
            cwd=PROGRAMS,
        )  # fmt: skip

    async def answers(self, load: Load) -> float:
        """Wait until the server answers the load's request as expected; return the seconds since it was started."""
        request, expected = load.exchanges()[0]
        while time.perf_counter() - self.spawned_at < START_SECONDS:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended: {self._complained()}")
            if await asyncio.to_thread(_answered, load.port, request, expected):
                return time.perf_counter() - self.spawned_at
            await asyncio.sleep(0.005)
        raise RuntimeError(f"no answer as expected within {START_SECONDS:g} s: {self._complained()}")

    def _complained(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace")[-2000:]

    def cpu_seconds(self) -> float:
        """Return the processor time the process has used; 0 where the system does not tell (no ``/proc``)."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Return the resident memory in MB (10^6 bytes); 0 where the system does not tell."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0.0
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmRSS"))

    async def measure(self, load: Load) -> dict[str, float]:
        """Put the load on and return requests a second, latencies and processor time for each request."""
        before = self.cpu_seconds()
        figures = await generate(load)
        used = self.cpu_seconds() - before
        count = figures["requests"] + load.warm_up
        return figures | {"value": figures["requests"] / figures["seconds"], "cpu_us": 1e6 * used / count}

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._complaints.close()


def _answered(port: int, request: bytes, expected: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status == 200 and expected in answer.read()
    except (OSError, http.client.HTTPException):
        return False


def environment() -> dict[str, str]:
    """Return the environment without options for Nexus or Python that the caller may have set."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("NEXUS_", "PYTHON"))}


@asynccontextmanager
async def serving(*servers: Server) -> AsyncIterator[Sequence[Server]]:
    """End the servers when the block ends."""
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


async def run_once(command: Sequence[str]) -> dict[str, float]:
    """Run a command to its end and return its wall time and processor time in milliseconds.

    Raises:
        RuntimeError: It failed.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    complaint = process.stderr.read().decode()
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {complaint[-1000:]}")
    return {"value": 1000 * wall, "cpu_us": 1e6 * (usage.ru_utime + usage.ru_stime)}
