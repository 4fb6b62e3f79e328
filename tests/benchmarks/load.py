"""The load generator: a process of its own that keeps some connections busy and counts what comes back.

It speaks just enough HTTP/1.1 (keep-alive, Content-Length and chunked bodies, one request in flight on each
connection) to cost little beside the server it measures. It reads one JSON object from stdin, the fields of `Load`,
and writes one to stdout: ``requests``, ``seconds`` and latencies in milliseconds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DISTINCT_BODIES = 997
"""A prime number of different bodies, so that no server can answer from a cache of the last few."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Load:
    """What to send.

    Attributes:
        port: On 127.0.0.1.
        path: The request target of each POST.
        body: Its body, with ``%d`` where a number is to vary.
        expect: Text that the answer holds, with the same ``%d``. Any other answer ends the measurement.
        headers: Further request headers.
        sessions: Headers that differ from connection to connection, if any do.
        connections: How many are open at once.
        seconds: How long requests are counted.
        warm_up: Requests before that, which are not.
    """

    port: int
    path: str
    body: str
    expect: str
    headers: dict[str, str] = field(default_factory=dict)
    sessions: list[dict[str, str]] = field(default_factory=list)
    connections: int = 8
    seconds: float = 2.0
    warm_up: int = 50

    def exchanges(self, connection: int = 0) -> list[tuple[bytes, bytes]]:
        """Return a connection's requests, ready to be written, each with what its answer must hold."""
        own = self.sessions[connection % len(self.sessions)] if self.sessions else {}
        headers = {"Content-Type": "application/json", **self.headers, **own}
        lines = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines)
        found = []
        for number in map(str, range(DISTINCT_BODIES)):
            body = self.body.replace("%d", number)
            request = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            found.append((request.encode(), self.expect.replace("%d", number).encode()))
        return found


class _Connection(asyncio.Protocol):
    def __init__(self, meter: _Meter, exchanges: list[tuple[bytes, bytes]]) -> None:
        self._meter = meter
        self._exchanges = itertools.cycle(exchanges)
        self._expected = b""
        self._received = bytearray()
        self._sent_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        request, self._expected = next(self._exchanges)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0 or not self._is_complete(head_end):
            return
        answer = bytes(self._received)
        self._received.clear()
        latency = time.perf_counter() - self._sent_at
        if not answer.startswith(b"HTTP/1.1 200") or self._expected not in answer:
            self._meter.refuse(answer)
        elif self._meter.count(latency):
            self._send()

    def _is_complete(self, head_end: int) -> bool:
        length = _LENGTH.search(self._received, 0, head_end + 2)
        if length is not None:
            return len(self._received) >= head_end + 4 + int(length[1])
        return self._received.endswith(b"0\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._meter.lost()


class _Meter:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._left = load.warm_up
        self._begin = self._end = 0.0
        self.latencies: list[float] = []
        self.over: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def refuse(self, answer: bytes) -> None:
        """End the measurement over a wrong answer."""
        if not self.over.done():
            self.over.set_exception(RuntimeError(f"an answer of another kind: {answer[:2000]!r}"))

    def count(self, latency: float) -> bool:
        """Note an answer. Returns whether more are wanted."""
        if self.over.done():
            return False
        now = time.perf_counter()
        if self._left > 0:
            self._left -= 1
            self._begin = now
            return True
        self.latencies.append(latency)
        if now - self._begin < self._load.seconds:
            return True
        self.over.set_result(now - self._begin)
        return False

    def lost(self) -> None:
        if not self.over.done():
            self.over.set_exception(RuntimeError("the server closed a connection that was in use"))


async def run(load: Load) -> dict[str, float]:
    """Send requests for the given time and return the figures."""
    loop = asyncio.get_running_loop()
    meter = _Meter(load)
    connections = []
    for number in range(load.connections):
        connection = _Connection(meter, load.exchanges(number))
        connections.append(await loop.create_connection(lambda made=connection: made, "127.0.0.1", load.port))
    try:
        async with asyncio.timeout(load.seconds + 60):
            seconds = await meter.over
    finally:
        for transport, _ in connections:
            transport.abort()
    ordered = sorted(meter.latencies)
    return {
        "requests": len(ordered),
        "seconds": seconds,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
    }


async def generate(load: Load) -> dict[str, float]:
    """Run the load in a process of its own and return its figures."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(json.dumps(asdict(load)).encode())
    if process.returncode:
        raise RuntimeError(err.decode().strip().splitlines()[-1])
    return dict(json.loads(out))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Load(**json.load(sys.stdin))))))
