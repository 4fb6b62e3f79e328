"""A platform in a process of its own, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any

START_SECONDS = 60.0
SERVE = ("-m", "nexus_core", "serve", "app:nexus")
"""What Python is told, where the application is ``nexus`` in ``app.py``."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Return the environment without what speaks to Nexus or OpenTelemetry."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "OTEL_", "TRACE"))}


class ServedProcess:
    """Starts it, and waits until every port answers.

    Args:
        folder: Where it runs.
        ports: The channels that get a port.
        options: Environment variables.
        arguments: What Python is told.
        output: Where its stdout and stderr go.

    Attributes:
        ports: The port of each channel.
        environment: What it was started with.
    """

    def __init__(
        self, folder: Path, ports: Collection[str] = ("api",), *, options: dict[str, str] | None = None,
        arguments: Sequence[str] = SERVE, output: int | IO[Any] = subprocess.DEVNULL,
    ) -> None:  # fmt: skip
        self.ports = {name: free_port() for name in ports}
        own = {f"NEXUS_{name}_PORT": "0" for name in ("API", "CLI")}  # any free one, not that of another test
        own |= {f"NEXUS_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        self.environment = clean_environment() | own | (options or {})
        self.process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output,
        )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        for port in self.ports.values():
            while not answers(port):
                assert self.process.poll() is None, "it has ended"
                assert time.monotonic() < end, "it does not answer"
                time.sleep(0.05)

    def url(self, channel: str = "api") -> str:
        return f"http://127.0.0.1:{self.ports[channel]}"

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code; one that has ended already is left alone."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


def answers(port: int) -> bool:
    """Whether something listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
