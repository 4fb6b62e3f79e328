"""`Heartbeat`: says in a store that processes share which of them live, so that what a dead one has claimed is known.

It is one value for each process, however much that has claimed, written every few seconds from the first claim on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core.errors import BackendUnavailable

if TYPE_CHECKING:
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

LIFE_SECONDS = 30.0
"""How long a process counts as alive after it has said so the last time: its event loop may stand still for a while."""

BEAT_SECONDS = 5.0
"""How often it says so."""

RETRY_SECONDS = 1.0
"""How soon it says so again where the store did not answer."""


class Heartbeat:
    """The heartbeat of one platform.

    Args:
        store: Where it is.

    Attributes:
        process: What the platform is called there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.process = secrets.token_hex(8)
        self._task: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it says so."""
        return self._task is not None

    async def begin(self) -> None:
        """Say that the process lives, from now on.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        await self._store.set(_key(self.process), b"", LIFE_SECONDS)
        if self._task is None:
            self._task = asyncio.create_task(self._beat(), name="nexus-heartbeat")

    async def is_dead(self, process: str) -> bool:
        """Whether another process lives no more. That takes a while: one that had no store to say so gets time for it.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        if process in ("", self.process) or await self._store.get(_key(process)) is not None:
            return False
        await asyncio.sleep(BEAT_SECONDS + RETRY_SECONDS)
        return await self._store.get(_key(process)) is None

    async def _beat(self) -> None:
        seconds = BEAT_SECONDS
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._store.set(_key(self.process), b"", LIFE_SECONDS)
                seconds = BEAT_SECONDS
            except BackendUnavailable:
                seconds = RETRY_SECONDS
            except Exception:
                log.exception("The heartbeat of this process could not be stored")

    async def close(self) -> None:
        """Say no more that the process lives."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        with suppress(BackendUnavailable):
            await self._store.delete(_key(self.process))


def _key(process: str) -> str:
    return f"process:{process}"
