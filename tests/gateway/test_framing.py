"""HTTP/1 as no client would write it, on every port: what comes back can be read, and every connection ends."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus_core import Nexus
from nexus_core.plugins.discovery import discover
from nexus_core.testing import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PLUGINS = ("api", "cli", "mcp", "health", "metrics", "hypercorn")

METHODS = [b"GET"] * 4 + [b"POST"] * 6 + [b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"CONNECT", b"TRACE", b"PRI", b"get"]
TARGETS = [
    b"/", b"/api/workflows", b"/api/workflows/add/execute", b"/api/workflows/add/execute", b"/api/ws", b"/api/events",
    b"/cli", b"/mcp", b"/mcp", b"/health", b"/metrics", b"/docs", b"*", b"http://localhost/api/workflows", b"/%00",
    b"/%zz",
    b"//", b"/../", b"/a?b=%ff&&=", b"/" + b"a" * 20_000, b"", b"/\xff",
]  # fmt: skip
VERSIONS = [b"HTTP/1.1"] * 12 + [b"HTTP/1.0", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/11", b"http/1.1", b""]
PLAUSIBLE = [
    b"Content-Length: 2", b"Content-Length: 2", b"Content-Length: 5", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked", b"Connection: close", b"Connection: keep-alive", b"Upgrade: h2c",
    b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAQAAAAA", b"Upgrade: websocket", b"Sec-WebSocket-Key: x",
    b"Sec-WebSocket-Version: 13", b"Expect: 100-continue", b"Content-Type: application/json",
    b"Content-Type: application/json", b"Accept: text/event-stream", b"Accept: application/json, text/event-stream",
    b"Prefer: wait=0", b"MCP-Protocol-Version: 2026-07-28", b"Cookie: a=\xff", b"X" * 300 + b": x",
    b"X: " + b"a" * 9000,
]  # fmt: skip
ODD = [
    b"Host: evil.example", b"Host:", b"Content-Length: 5, 5", b"Content-Length: 5, 6", b"Content-Length: -1",
    b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5_0", b"Content-Length: 99999999999999999999",
    b"Content-Length : 5", b"Content-Length: \xb2", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding:",
    b"Origin: http://evil.example", b"X: a\0b", b" folded: x", b"X" * 300, b": nothing", b"Content-Length: 2\rX: y",
]  # fmt: skip
BODIES = [
    b"", b"", b"{}", b"{}", b"{}\r\n", b'{"a"', b"2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n",
    b"2;x=y\r\n{}\r\n0\r\nA: b\r\n\r\n", b"-2\r\n{}\r\n", b"2\r\n{}XX0\r\n\r\n", b"FFFFFFFFFFFFFFFFFF\r\n",
    b"0x2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\n", b"\r\n", b"\r\n\r\n", b"1\r\na\r\n" * 500, b"x" * 100_000,
]  # fmt: skip


@st.composite
def requests(draw: Any) -> bytes:
    """A request that is nearly right: one or two things in it are not."""
    line = b" ".join(draw(st.sampled_from(each)) for each in (METHODS, TARGETS, VERSIONS))
    headers = [b"Host: localhost", *draw(st.lists(st.sampled_from(PLAUSIBLE), max_size=5))]
    if draw(st.integers(0, 2)) == 0:
        headers.insert(
            draw(st.integers(0, len(headers))), draw(st.one_of(st.sampled_from(ODD), st.binary(max_size=30)))
        )
    end = draw(st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n "]))
    body = draw(st.sampled_from(BODIES)) if draw(st.integers(0, 9)) else draw(st.binary(max_size=60))
    return b"".join(each + end for each in (line, *headers)) + end + body


@st.composite
def connections(draw: Any) -> list[bytes]:
    """What one client sends, cut anywhere; sometimes a request follows that no answer must be smuggled for."""
    sent = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    cuts = sorted(draw(st.lists(st.integers(0, len(sent)), max_size=3)))
    parts = [sent[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    return [part for part in parts if part]


async def exchange(port: int, parts: list[bytes]) -> bytes:
    """Send what there is, and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0)
            received = b""
            while data := await reader.read(65536):
                received += data
                if b" 101 " in received[:20] or b"text/event-stream" in received:
                    break  # open on purpose, until the client leaves
            return received
    except ConnectionError:
        return b""
    finally:
        writer.close()


def check_readable(sent: bytes, received: bytes) -> None:
    """The first answer is one of HTTP/1.1 and no failure of the server's."""
    if not received:
        return
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=10_000_000)
    method = sent.lstrip().split(b" ", 1)[0]
    client.send(h11.Request(method="HEAD" if method == b"HEAD" else "GET", target="/", headers=[("Host", "localhost")]))
    client.send(h11.EndOfMessage())
    client.receive_data(received)
    while isinstance(event := client.next_event(), h11.InformationalResponse):
        if event.status_code == 101:
            return
    assert isinstance(event, h11.Response), (sent, received)
    assert event.status_code != 500, (sent, received)
    assert 200 <= event.status_code < 600, (sent, received)


class Lines(logging.Handler):
    """Keeps what is logged as a failure."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.exc_info or ''}")


@asynccontextmanager
async def served() -> AsyncIterator[dict[str, int]]:
    ports = {f"{name}_port": 0 for name in ("api", "cli", "mcp", "metrics")}
    found = [record.entry_point().load() for record in discover() if record.name in PLUGINS]
    if len(found) < len(PLUGINS):
        pytest.skip("not every plugin that listens is installed")
    nexus = Nexus(
        discover=False, plugins=found,
        keep_alive_timeout=0.3, body_timeout=0.3, shutdown_grace=0.2, drain_seconds=0.05,
        enable_monitoring=True, **ports,
    )  # fmt: skip

    @nexus.workflow
    async def add(a: int = 1, b: int = 2) -> int:
        return a + b

    async with nexus.serving() as listeners:
        yield {name: int(each.url.rpartition(":")[2]) for each in listeners for name in each.channels}


@contextmanager
def serving() -> Iterator[tuple[asyncio.Runner, dict[str, int]]]:
    """Serve on an event loop that turns while an example runs."""
    with asyncio.Runner() as runner:
        platform = served()
        ports = runner.run(platform.__aenter__())
        yield runner, ports
        runner.run(platform.__aexit__(None, None, None))


def none_left() -> bool:
    ends = ("Port._serve", "Tasks._answer", "_read_ahead", "_discard")
    return not any(getattr(task.get_coro(), "__qualname__", "").endswith(ends) for task in asyncio.all_tasks())


def test_framing_on_every_port() -> None:
    lines = Lines()
    logging.getLogger().addHandler(lines)
    try:
        with serving() as (runner, ports):
            assert {"api", "cli", "mcp", "metrics"} <= ports.keys()

            async def all_at_once(batch: list[list[bytes]]) -> None:
                pairs = [(port, parts) for parts in batch for port in ports.values()]
                received = await asyncio.gather(*(exchange(*pair) for pair in pairs))
                for (_, parts), each in zip(pairs, received, strict=True):
                    check_readable(b"".join(parts), each)
                await eventually(none_left, 20)
                for port in ports.values():
                    answer = await exchange(port, [b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"])
                    assert answer.startswith(b"HTTP/1.1 ")

            @settings(max_examples=10, suppress_health_check=list(HealthCheck))
            @given(st.lists(connections(), min_size=12, max_size=24))  # at once: most of the time, each waits
            def attack(batch: list[list[bytes]]) -> None:
                runner.run(all_at_once(batch))

            attack()
        assert lines.lines == []
    finally:
        logging.getLogger().removeHandler(lines)
