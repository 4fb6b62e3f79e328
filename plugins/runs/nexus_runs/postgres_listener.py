"""`PostgresListener`: one connection that is notified of what other processes write."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError
from nexus_runs.postgres_steps import TO_CANCEL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nexus_runs.postgres_client import PostgresClient
    from nexus_runs.watchers import Watchers

log = logging.getLogger(__name__)

AWAY_SECONDS = 0.5
"""Pause between two attempts to connect."""

CHECK_SECONDS = 2.0
"""Seconds between two checks whether the connection works, in addition to what it hears."""


class PostgresListener:
    """Listens to notifications, and connects again when its connection breaks. What it may have missed it asks for.

    Args:
        client: The connections.
        watchers: Who waits for changes.
        prepare: Makes the tables, when PostgreSQL can be reached for the first time.
    """

    def __init__(self, client: PostgresClient, watchers: Watchers, prepare: Callable[[Any], Awaitable[None]]) -> None:
        self._client = client
        self._watchers = watchers
        self._prepare = prepare
        self._executor = ""
        self._task: asyncio.Task[None] | None = None
        self.channel = client.schema

    async def open(self, executor: str) -> None:
        """Connect, and listen from now on. It is no error if PostgreSQL can't be reached.

        Raises:
            ConfigurationError: The tables are those of a later version.
        """
        self._executor = executor
        connection = None
        try:
            connection = await self._connect()
        except ConfigurationError:
            raise
        except Exception as exc:
            self._client.log_failure(self._client.reason(exc))
        self._task = asyncio.get_running_loop().create_task(self._listen(connection), name="nexus-runs-listener")

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _connect(self) -> Any:
        connection = await self._client.connect()
        try:
            await self._prepare(connection)
            await connection.add_listener(self.channel, self._heard)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _listen(self, connection: Any) -> None:
        while True:
            try:
                if connection is None:
                    connection = await self._connect()
                    self._watchers.notify_all()
                cancelled = await connection.fetch(TO_CANCEL, self._executor)
                self._watchers.cancel(row["id"] for row in cancelled)
                await self._stay(connection)
            except Exception as exc:
                self._client.log_failure(self._client.reason(exc))
            finally:
                if connection is not None:
                    connection.terminate()
            connection = None
            await asyncio.sleep(AWAY_SECONDS)

    async def _stay(self, connection: Any) -> None:
        """Return, or raise, when the connection does not work any more."""
        is_over = asyncio.Event()
        connection.add_termination_listener(lambda _: is_over.set())
        while not is_over.is_set() and not connection.is_closed():
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await is_over.wait()
                    return
            await connection.execute("SELECT 1")

    def _heard(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        head, *run_ids = payload.split("\n")
        kind, _, executor = head.partition(" ")
        if kind == "cancel" and executor == self._executor:
            self._watchers.cancel(run_ids)
        elif kind == "changed" and executor != self._executor:  # its own changes are known
            if run_ids == ["*"]:
                self._watchers.notify_all()
            else:
                self._watchers.notify(run_ids)
