"""What the tests of several plugins use."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Wait until a condition holds; a busy machine gets its time."""
    return partial(testing.eventually, seconds=20.0)


class Raw:
    """A plain socket that speaks whatever the test writes, and reads only when it is told to."""

    def __init__(self, url: object, **options: int) -> None:
        host, port = str(url).removeprefix("http://").rsplit(":", 1)
        self.socket = socket.socket()
        for name, value in options.items():
            self.socket.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        self.socket.settimeout(10)
        self.socket.connect((host, int(port)))
        self.socket.setblocking(False)
        self.received = b""

    async def send(self, data: bytes) -> None:
        """Send all of it; this takes as long as the other side takes to read it."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, until: bytes | None = None, seconds: float = 10.0) -> bytes:
        """Return what has been received once `until` is in it, or the other side has closed."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            while until is None or until not in self.received:
                try:
                    data = await loop.sock_recv(self.socket, 65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    break
                self.received += data
        return self.received

    async def ask(self, data: bytes, until: bytes | None = None, seconds: float = 10.0) -> bytes:
        """`send`, then `read`."""
        await self.send(data)
        return await self.read(until, seconds)

    def close(self) -> None:
        """Leave politely."""
        self.socket.close()

    def reset(self) -> None:
        """Leave without a farewell."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


@pytest.fixture
def raw() -> Iterator[Callable[..., Raw]]:
    """Connect plain sockets, with options such as ``SO_RCVBUF``. They are closed when the test ends."""
    opened: list[Raw] = []

    def connect(url: object, **options: Any) -> Raw:
        opened.append(Raw(url, **options))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()
