"""`RedisClient`: one command, one round trip, one time limit; and nothing at all while Redis is known to be away."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError, RedisError

from nexus_core.errors import BackendUnavailable
from nexus_redis import pools
from nexus_redis.exchange import Probe, exchange, reason_of, too_late

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool

    from nexus_redis.address import Address
    from nexus_redis.exchange import Command, Line, Value
    from nexus_redis.scripts import Script

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""How often Redis is asked whether it is there, beside what calls find out."""

AWAY_SECONDS = 0.5
"""How often while it is not."""

TOLD = 20
"""How many different refusals are logged; the same one is logged once."""


class RedisClient:
    """Sends commands through one bounded pool, until Redis does not answer.

    From then on every command fails at once. One task of its own asks whether Redis is back; no call waits for that.

    Args:
        address: Where Redis is.
        pool_size: Connections that stay open when they have nothing to do.
        max_connections: Connections at most, beside one for the task that watches.
        timeout: Seconds for a command, the wait for a connection included.
        prefix: What every key begins with.

    Attributes:
        address: Where Redis is.
        reason: Why Redis is not available, for operators; None while it is.
    """

    def __init__(self, address: Address, *, pool_size: int, max_connections: int, timeout: float, prefix: str) -> None:
        self.prefix = prefix
        self.reason: str | None = "it was not asked yet"
        self.address = address
        self._pool_size = pool_size
        self._max_connections = max_connections
        self._timeout = timeout
        self._pool: BlockingConnectionPool | None = None
        self._watching: asyncio.Task[None] | None = None
        self._doubt = asyncio.Event()
        self._told: set[str] = set()

    async def open(self) -> None:
        """Look whether Redis is there, and watch it from now on. It is no error when it is not."""
        self._pool = pools.make_pool(self.address, self._max_connections, self._timeout)
        self._doubt = asyncio.Event()
        probe = Probe(self._pool, f"{self.prefix}probe", self._timeout)
        self._found(await probe.run())
        self._watching = asyncio.create_task(self._watch(self._pool, probe), name="nexus-redis-watch")

    async def close(self) -> None:
        """Close every connection. What is under way fails."""
        watching, self._watching = self._watching, None
        pool, self._pool = self._pool, None
        self.reason = "it is closed"
        if watching is not None:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        if pool is not None:
            await pools.close(pool)

    async def ready(self) -> bool:
        """Whether Redis is available, as far as is known. Costs nothing: what is known is about a second old."""
        return self.reason is None

    async def check(self) -> dict[str, str]:
        """Ask Redis whether it is there, and return where that is.

        Raises:
            BackendUnavailable: It is not; the message is for operators.
        """
        with suppress(BackendUnavailable):
            await self.execute("PING")
            return {"server": self.address.name}
        raise BackendUnavailable(f"{self.address.name}: {self.reason or 'it refuses commands'}")

    async def execute(self, *command: Value) -> Any:
        """Send a command and return its reply.

        Raises:
            BackendUnavailable: There is no reply, or it is a refusal.
        """
        return await self._exchange(command)

    async def run(self, script: Script, *keys_and_args: Value) -> Any:
        """Run a script and return its reply.

        Raises:
            BackendUnavailable: There is no reply, or it is a refusal.
        """
        rest = (script.keys, *keys_and_args)
        return await self._exchange(("EVALSHA", script.sha, *rest), ("EVAL", script.text, *rest))

    async def wait_for(self, line: Line, seconds: float, *command: Value) -> Any:
        """Send a command that may take a while, on a connection of its own, and return its reply.

        Args:
            line: The connection.
            seconds: What the command may take beside the usual time.
            *command: The command.

        Raises:
            BackendUnavailable: There is no reply, or it is a refusal.
        """
        if self.reason is not None or self._pool is None:
            raise _unavailable()
        try:
            async with asyncio.timeout(seconds + self._timeout):
                return await line.ask(self._pool, command)
        except (TimeoutError, OSError):
            pass
        except RedisError as exc:
            if not isinstance(exc, ConnectionError):
                self._refused(reason_of(exc))
        raise _unavailable()

    async def _exchange(self, command: Command, otherwise: Command | None = None) -> Any:
        pool = self._pool
        if self.reason is not None or pool is None:
            raise _unavailable()
        try:
            async with asyncio.timeout(self._timeout):
                return await exchange(pool, command, otherwise)
        except TimeoutError:
            self._lost(pool, too_late(self._timeout))
        except (ConnectionError, OSError) as exc:
            self._lost(pool, reason_of(exc))
        except RedisError as exc:
            self._refused(reason_of(exc))
        raise _unavailable()

    def _lost(self, pool: BlockingConnectionPool, reason: str) -> None:
        """Send nothing more until the task that watches has had an answer. It asks at once."""
        if self.reason is None and pool is self._pool:
            self._found(reason)
            self._doubt.set()

    def _refused(self, reason: str) -> None:
        """Redis answers, and does not do it: for this key alone, or for all, which the task that watches finds out."""
        if reason not in self._told and len(self._told) < TOLD:
            self._told.add(reason)
            log.error("Redis at %s refused a command: %s", self.address.name, reason)

    def _found(self, reason: str | None) -> None:
        """Take note of whether Redis is available, and log what changes."""
        before, self.reason = self.reason, reason
        if reason is None and before is not None:
            log.info("Redis at %s answers", self.address.name)
        elif reason is not None and (before is None or self._watching is None):
            log.warning("Redis at %s is not available: %s", self.address.name, reason)

    async def _watch(self, pool: BlockingConnectionPool, probe: Probe) -> None:
        """Find out whether Redis is available: every now and then, and at once when a call doubts it."""
        now = asyncio.get_running_loop().time
        came_back = -AWAY_SECONDS
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECONDS if self.reason is None else AWAY_SECONDS):
                        await self._doubt.wait()
                if self._doubt.is_set() and now() - came_back < AWAY_SECONDS:  # it comes and goes
                    await asyncio.sleep(AWAY_SECONDS)
                self._doubt.clear()
                was_away, reason = self.reason is not None, await probe.run()
                self._found(reason)
                if reason is not None:
                    await pools.drop_idle(pool)  # what they lead to may be gone for good
                elif was_away:
                    came_back = now()
                await pools.trim(pool, self._pool_size)
        finally:
            await probe.close()


def _unavailable() -> BackendUnavailable:
    return BackendUnavailable("The store of shared state does not answer.", retry_after=1.0)
