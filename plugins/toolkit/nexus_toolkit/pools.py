"""`Pool`: at most so many connections at once, shared by all who ask: one form for databases, Redis and the rest."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from nexus_core.errors import BackendUnavailable, NexusError
from nexus_core.text import one_line, printable
from nexus_core.types.measurement import Measurement
from nexus_toolkit.blocking import Blocking, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

log = logging.getLogger(__name__)

Connection = TypeVar("Connection")


class PoolBackend(Protocol[Connection]):
    """What holds a pool's connections, on one event loop."""

    @property
    def idle(self) -> int:
        """How many connections are open and not in use."""

    async def take(self) -> Connection:
        """Return a connection, waiting as long as it takes. Who is cancelled meanwhile has none, and none is lost."""

    async def give_back(self, connection: Connection, exc: BaseException | None) -> None:
        """Take a connection back, also where this is cancelled. ``exc`` is what its user raised."""

    async def close(self) -> None:
        """Close every connection, soon."""

    def abandon(self) -> None:
        """Let go of connections whose event loop has ended: nothing of them can be awaited."""


@dataclass(eq=False)
class OpenPool(Generic[Connection]):
    """A pool's connections, and who uses them."""

    loop: asyncio.AbstractEventLoop
    backend: PoolBackend[Connection]
    in_use: int = 0
    waiting: int = 0


class Pool(Generic[Connection]):
    """Connections for callers: ``async with pool.acquire() as connection``.

    It belongs to the event loop that it is opened on, or first used on; threads use `sync`. Nothing is connected before
    that is needed. Once closed, it has to be opened before it is used again.

    Args:
        name: As in errors, such as ``db_pool``.
        backend: Makes what holds the connections, when the pool is opened.
        size: Connections that stay open when they have nothing to do.
        limit: Connections at most.
        timeout: Seconds to wait for a connection.
        limit_option: The option that sets ``limit``; default ``<name>_max_connections``.
        timeout_option: The option that sets ``timeout``; default ``<name>_timeout``.

    Attributes:
        name, size, limit, timeout: As given.
    """

    def __init__(
        self,
        name: str,
        backend: Callable[[], PoolBackend[Connection]],
        *,
        size: int,
        limit: int,
        timeout: float,
        limit_option: str = "",
        timeout_option: str = "",
    ) -> None:
        self.name = name
        self.size = min(size, limit)
        self.limit = limit
        self.timeout = timeout
        self._make_backend = backend
        self._limit_option = limit_option or f"{name}_max_connections"
        self._timeout_option = timeout_option or f"{name}_timeout"
        self._opened: OpenPool[Connection] | None = None
        self._is_closed = False

    @property
    def in_use(self) -> int:
        """How many connections are in use."""
        return self._opened.in_use if self._opened else 0

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return self._opened.waiting if self._opened else 0

    @property
    def idle(self) -> int:
        """How many connections are open and not in use."""
        return self._opened.backend.idle if self._opened else 0

    def acquire(self) -> Acquisition[Connection]:
        """Return a context manager that gives a connection, and takes it back at its end.

        Entering it waits for at most ``timeout`` seconds.

        Raises:
            BackendUnavailable: No connection is free in that time, or none can be made; the message says which.
            RuntimeError: The pool is open on another event loop that runs.
        """
        return Acquisition(self)

    def sync(self) -> SyncPool:
        """Return the pool for code in threads, such as sync workflows: ``with pool.sync().acquire() as connection``."""
        return SyncPool(self)

    def open(self) -> None:
        """Take the running event loop for the pool's own. Nothing is connected yet."""
        self._is_closed = False
        self.opened_here()

    async def close(self) -> None:
        """Close every connection. Who uses one still may find it closed."""
        opened, self._opened = self._opened, None
        self._is_closed = True
        if opened is None:
            return
        if opened.loop is asyncio.get_running_loop():
            await opened.backend.close()
        else:
            _abandon(opened)

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def opened_on(self) -> asyncio.AbstractEventLoop:
        """Return the pool's event loop.

        Raises:
            RuntimeError: It is not open.
        """
        if self._opened is None:
            raise RuntimeError(f"{self.name} is not open: it is while the platform is started, or in `async with`.")
        return self._opened.loop

    def opened_here(self) -> OpenPool[Connection]:
        """Return the pool as it is on the running event loop, which becomes its own if it has none."""
        opened = self._opened
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(f"{self.name} is used on an event loop: use {self.name}.sync() in a thread.") from None
        if opened is not None and opened.loop is here:
            return opened
        if self._is_closed:
            raise BackendUnavailable(f"{self.name} is closed: the platform is not started.")
        if opened is not None:
            if opened.loop.is_running():
                raise RuntimeError(f"{self.name} is open on another event loop: use {self.name}.sync() in a thread.")
            _abandon(opened)
        self._opened = opened = OpenPool(here, self._make_backend())
        return opened

    async def take(self) -> tuple[OpenPool[Connection], Connection]:
        """Return a connection and what it is part of, for `give_back`. See `acquire`, which is what to use."""
        opened = self.opened_here()
        opened.waiting += 1
        try:
            async with asyncio.timeout(self.timeout) as limit:
                connection = await opened.backend.take()
        except NexusError:
            raise
        except Exception as exc:
            raise self._unavailable(opened, None if limit.expired() else exc) from None
        finally:
            opened.waiting -= 1
        opened.in_use += 1
        return opened, connection

    def _unavailable(self, opened: OpenPool[Connection], exc: Exception | None) -> BackendUnavailable:
        if exc is not None:
            return BackendUnavailable(f"{self.name} can't connect: {printable(self.reason(exc), 300)}", retry_after=1.0)
        within = f"within {self.timeout:g} seconds ({self._timeout_option})"
        if opened.in_use >= self.limit:
            all_are = f"all {self.limit} ({self._limit_option}) are in use"
            return BackendUnavailable(f"{self.name} had no free connection {within}: {all_are}.", retry_after=1.0)
        return BackendUnavailable(f"{self.name} could not connect {within}.", retry_after=1.0)

    def reason(self, exc: Exception) -> str:
        """Return why a connection can't be made, without secrets."""
        return one_line(exc)

    async def give_back(self, taken: tuple[OpenPool[Connection], Connection], exc: BaseException | None) -> None:
        """Take back what `take` gave."""
        opened, connection = taken
        opened.in_use -= 1  # the next one may have it before this returns
        try:
            await opened.backend.give_back(connection, exc)
        except Exception as failure:
            log.warning("A connection of %s could not be reused: %s", self.name, self.reason(failure))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.in_use} of {self.limit} in use, {self.idle} idle>"


def _abandon(opened: OpenPool[Any]) -> None:
    with suppress(Exception):  # what it closes may want the event loop
        opened.backend.abandon()


class Acquisition(Generic[Connection]):
    """Has a connection from the beginning of ``async with`` to its end. For one use."""

    __slots__ = ("_pool", "_taken")

    def __init__(self, pool: Pool[Connection]) -> None:
        self._pool = pool
        self._taken: tuple[Any, Connection] | None = None

    async def __aenter__(self) -> Connection:
        if self._taken is not None:
            raise RuntimeError("acquire() is used once: call it for each connection")
        self._taken = await self._pool.take()
        return self._taken[1]

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            await self._pool.give_back(taken, exc)


class SyncPool:
    """A pool for code in threads. Each call of a connection's method waits until the event loop has done it.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = pool
        self._loop = pool.opened_on()

    @contextmanager
    def acquire(self) -> Iterator[Any]:
        """Return a context manager that gives a `Blocking` connection; see `Pool.acquire`."""
        taken = wait_for(self._loop, self._pool.take())
        exc: BaseException | None = None
        try:
            yield Blocking(taken[1], self._loop)
        except BaseException as raised:
            exc = raised
            raise
        finally:
            with suppress(RuntimeError):  # the event loop has ended, and the connection with it
                wait_for(self._loop, self._pool.give_back(taken, exc))


def pool_measurements(pools: Sequence[Pool[Any]], prefix: str = "nexus_pool") -> list[Measurement]:
    """Return the numbers of pools, by their names."""
    numbers: dict[str, tuple[str, Callable[[Pool[Any]], int]]] = {
        "in_use": ("Connections in use.", lambda pool: pool.in_use),
        "idle": ("Open connections that are not in use.", lambda pool: pool.idle),
        "waiting": ("Callers that wait for a connection.", lambda pool: pool.waiting),
        "limit": ("Maximum number of connections.", lambda pool: pool.limit),
    }

    def measure(name: str, description: str, number: Callable[[Pool[Any]], int]) -> Measurement:
        return Measurement(
            f"{prefix}_{name}", "gauge", description, ("pool",),
            lambda: [((pool.name,), float(number(pool))) for pool in pools],
        )  # fmt: skip

    return [measure(name, description, number) for name, (description, number) in numbers.items()]
