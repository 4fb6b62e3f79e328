"""`RedisClient`: one round trip and one time limit for each command; none while Redis is known to be unavailable."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError, RedisError

from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.errors import BackendUnavailable
from nexus_redis import pools
from nexus_redis._vendor_internals import connections, idle_connections
from nexus_redis.exchange import WriteProbe, exchange, reason_of, too_late, unavailable

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool

    from nexus_redis.address import Address
    from nexus_redis.exchange import Command, DedicatedConnection, Value
    from nexus_redis.scripts import Script

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""Seconds between two checks while Redis is available, in addition to what calls find out."""

AWAY_SECONDS = 0.5
"""Seconds between two checks while it is unavailable."""

REFUSED_SECONDS = 60.0
"""Seconds between two log lines about commands that Redis refuses for the same reason."""


class RedisClient:
    """Sends commands through one bounded pool until Redis fails to reply in time.

    From then on every command fails at once. A background task checks whether Redis is back; no call waits for that.

    Args:
        address: Address of Redis.
        pool_size: Connections that stay open while they are unused.
        max_connections: Maximum number of connections, in addition to one for the background task.
        timeout: Seconds for a command, including the wait for a connection.
        prefix: Prefix of every key.

    Attributes:
        address: Address of Redis.
        prefix: Prefix of every key.
        reason: Why Redis is unavailable, for operators; None while it is available.
    """

    def __init__(self, address: Address, *, pool_size: int, max_connections: int, timeout: float, prefix: str) -> None:
        self.prefix = prefix
        self.reason: str | None = "it has not been checked yet"
        self.address = address
        self._pool_size = pool_size
        self._max_connections = max_connections
        self._timeout = timeout
        self._pool: BlockingConnectionPool | None = None
        self._monitor: asyncio.Task[None] | None = None
        self._check_now = asyncio.Event()
        self._refusals = RateLimitedLog(log, REFUSED_SECONDS)

    async def open(self) -> None:
        """Connect, and check from now on whether Redis is available. It is no error if it is not."""
        self._pool = pools.make_pool(self.address, self._max_connections, self._timeout)
        self._check_now = asyncio.Event()
        probe = WriteProbe(self._pool, f"{self.prefix}probe", self._timeout)
        self._found(await probe.run())
        self._monitor = asyncio.create_task(self._monitored(self._pool, probe), name="nexus-redis-monitor")

    async def close(self) -> None:
        """Close every connection. Commands in flight fail."""
        monitor, self._monitor = self._monitor, None
        pool, self._pool = self._pool, None
        self.reason = "it is closed"
        if monitor is not None:
            monitor.cancel()
            with suppress(asyncio.CancelledError):
                await monitor
        if pool is not None:
            await pools.close(pool)

    def connections(self) -> tuple[int, int]:
        """Return how many connections of the pool are idle, and how many are in use."""
        if self._pool is None:
            return 0, 0
        idle = len(idle_connections(self._pool))
        return idle, len(connections(self._pool)) - idle

    async def check(self) -> dict[str, str]:
        """Check whether Redis is available, and return its address.

        Raises:
            BackendUnavailable: It is unavailable; the message is for operators.
        """
        with suppress(BackendUnavailable):
            await self.execute("PING")
            return {"server": self.address.name}
        raise BackendUnavailable(f"{self.address.name}: {self.reason or 'it refuses commands'}")

    async def execute(self, *command: Value) -> Any:
        """Send a command and return its reply.

        Raises:
            BackendUnavailable: No reply, or an error as reply.
        """
        return await self._exchange(command)

    async def run(self, script: Script, *keys_and_args: Value) -> Any:
        """Run a script and return its reply.

        Raises:
            BackendUnavailable: No reply, or an error as reply.
        """
        rest = (script.keys, *keys_and_args)
        return await self._exchange(("EVALSHA", script.sha, *rest), ("EVAL", script.text, *rest))

    async def wait_for(self, connection: DedicatedConnection, seconds: float, *command: Value) -> Any:
        """Send a blocking command and return its reply.

        Args:
            connection: The connection.
            seconds: Time that the command may take in addition to the usual limit.
            *command: The command.

        Raises:
            BackendUnavailable: No reply, or an error as reply.
        """
        if self.reason is not None or self._pool is None:
            raise unavailable()
        try:
            async with asyncio.timeout(seconds + self._timeout):
                return await connection.send(self._pool, command)
        except (TimeoutError, OSError):
            pass
        except RedisError as exc:
            if not isinstance(exc, ConnectionError):
                self._refused(reason_of(exc))
        raise unavailable()

    async def _exchange(self, command: Command, otherwise: Command | None = None) -> Any:
        pool = self._pool
        if self.reason is not None or pool is None:
            raise unavailable()
        try:
            async with asyncio.timeout(self._timeout):
                return await exchange(pool, command, otherwise)
        except TimeoutError:
            self._lost(pool, too_late(self._timeout))
        except (ConnectionError, OSError) as exc:
            self._lost(pool, reason_of(exc))
        except RedisError as exc:
            self._refused(reason_of(exc))
        raise unavailable()

    def _lost(self, pool: BlockingConnectionPool, reason: str) -> None:
        """Send no more commands until the background task has had a reply. It checks at once."""
        if self.reason is None and pool is self._pool:
            self._found(reason)
            self._check_now.set()

    def _refused(self, reason: str) -> None:
        """Log that Redis refused a command: for one key, or for all, which the background task finds out."""
        self._refusals.log(logging.ERROR, reason, "Redis at %s refused a command: %s", self.address.name, reason)

    def _found(self, reason: str | None) -> None:
        """Set whether Redis is available, and log a change."""
        before, self.reason = self.reason, reason
        if reason is None and before is not None:
            log.info("Redis at %s is available", self.address.name)
        elif reason is not None and (before is None or self._monitor is None):
            log.warning("Redis at %s is unavailable: %s", self.address.name, reason)

    async def _monitored(self, pool: BlockingConnectionPool, probe: WriteProbe) -> None:
        """Check whether Redis is available: periodically, and at once when a command has failed."""
        now = asyncio.get_running_loop().time
        came_back = -AWAY_SECONDS
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECONDS if self.reason is None else AWAY_SECONDS):
                        await self._check_now.wait()
                if self._check_now.is_set() and now() - came_back < AWAY_SECONDS:  # it is unstable
                    await asyncio.sleep(AWAY_SECONDS)
                self._check_now.clear()
                was_away, reason = self.reason is not None, await probe.run()
                self._found(reason)
                if reason is not None:
                    await pools.drop_idle(pool)  # their server may be gone for good
                elif was_away:
                    came_back = now()
                await pools.trim(pool, self._pool_size)
        finally:
            await probe.close()
