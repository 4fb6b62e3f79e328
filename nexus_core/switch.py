"""`Switch`: the platform's start and stop, each done once, whoever asks for it and whoever stops waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexus_core import lifecycle
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core.app import Nexus
    from nexus_core.resolvers import ParameterResolver


class Switch:
    """Starts and stops a platform. Each change is a task of its own: it goes on when who asked for it is cancelled.

    Args:
        nexus: The platform.
        resolvers: The application's own parameter resolvers, read at each start.

    Attributes:
        running: What is started, or is stopping still; None otherwise.
    """

    def __init__(self, nexus: Nexus, resolvers: Sequence[ParameterResolver]) -> None:
        self._nexus = nexus
        self._resolvers = resolvers
        self.running: lifecycle.Running | None = None
        self._changing: tuple[asyncio.AbstractEventLoop | None, asyncio.Lock] = (None, asyncio.Lock())
        self._starting: asyncio.Task[lifecycle.Running] | None = None

    async def start(self) -> lifecycle.Running:
        """Start the platform on the running event loop, unless it is started there.

        Who asks while it is being started shares what becomes of that, and does not try once more.

        Raises:
            ConfigurationError: It can't be started, or is started on another event loop.
        """
        here, running, starting = asyncio.get_running_loop(), self.running, self._starting
        if running is not None and running.loop is here:
            return running
        if starting is None or starting.done() or starting.get_loop() is not here:
            self._starting = starting = asyncio.create_task(self._start(), name="nexus-start")
        return await asyncio.shield(starting)

    async def enter(self) -> lifecycle.Running:
        """Start for somebody who will call `stop`. When he is cancelled meanwhile, that is done for him."""
        try:
            return await self.start()
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop what was started on the running event loop, if anything was."""
        self._starting = None  # who asks from now on wants it started once this has stopped it
        await asyncio.shield(asyncio.create_task(self._stop(), name="nexus-stop"))

    async def _start(self) -> lifecycle.Running:
        async with self._lock():
            running = self.running
            if running is not None and running.loop is not asyncio.get_running_loop():
                if not running.loop.is_closed():
                    raise ConfigurationError("The platform is started on another event loop: stop it there first.")
                self._abandon(running)
            if self.running is None:
                self.running = await lifecycle.start(self._nexus, self._resolvers)
            return self.running

    async def _stop(self) -> None:
        async with self._lock():
            running = self.running
            if running is None or running.loop is not asyncio.get_running_loop():
                return
            try:
                await lifecycle.stop(running)  # what still runs may call workflows meanwhile
            finally:
                self.running = None
                self._nexus.threads.rest()

    def _lock(self) -> asyncio.Lock:
        """Return the lock around changes. It belongs to the event loop it was first waited for on."""
        here = asyncio.get_running_loop()
        loop, lock = self._changing
        if loop is not here:
            if loop is not None and lock.locked() and loop.is_running():
                raise ConfigurationError("The platform is being started or stopped on another event loop.")
            self._changing = here, (lock := asyncio.Lock())
        return lock

    def _abandon(self, running: lifecycle.Running) -> None:
        """Forget what was started on an event loop that was closed without a stop: nothing of it can be awaited."""
        self.running = None
        for handler in running.handlers:
            self._nexus.events.remove_handler(handler)
