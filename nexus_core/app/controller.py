"""`LifecycleController`: start and stop of a platform, each done once however many callers wait for it."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core.app import lifecycle
from nexus_core.concurrency.own_loop import OwnLoop, hand_over, wait_for
from nexus_core.errors import ConfigurationError, RunCancelled

if TYPE_CHECKING:
    from nexus_core.app.state import PlatformState, Running


EXIT_SECONDS = 5.0
"""How much longer than ``shutdown_grace`` the end of the process waits for a platform on its own event loop."""


class LifecycleController:
    """Starts and stops a platform. Each change is a separate task: cancelling its caller does not cancel it.

    A call starts a platform that is not started: on its own event loop in the main thread; from other threads, whose
    event loops come and go, on one of the platform's own, which all of them share.

    Args:
        state: The parts of the platform. Its `running` is set and cleared here.
    """

    def __init__(self, state: PlatformState) -> None:
        self._state = state
        self._changing: tuple[asyncio.AbstractEventLoop | None, asyncio.Lock] = (None, asyncio.Lock())
        self._starting: asyncio.Task[Running] | None = None
        self._deciding = threading.Lock()
        self._home: asyncio.AbstractEventLoop | None = None  # where it is started, or will be
        self._process = 0  # where `_home` is
        self._own: OwnLoop | None = None
        self._started_in = 0
        self._is_held = False  # somebody has started it who will stop it, and not a call only

    def home(self, here: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
        """Return the event loop for a call: where the platform is started or being started, or where it shall be.

        Args:
            here: The running event loop; None in a thread that has none.
        """
        with self._deciding:
            home = self._home if self._state.running is None or self._is_lost() else self._state.running.loop
            if home is not None and home is not here and self._is_there(home):
                return home
            is_passing = threading.current_thread() is not threading.main_thread() and home is not here
            if here is None or is_passing:
                if self._own is None or not self._own.is_alive:
                    self._own = OwnLoop("nexus-loop")
                    self._state.threads.keep_reserve()  # for what the end of the process calls
                    atexit.register(self._stop_at_exit, self._own)
                here = self._own.loop
            self._home, self._process = here, os.getpid()
            return here

    def _is_there(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether an event loop can be handed a call: it runs, and in this process, not in one that was forked."""
        return self._process == os.getpid() and loop.is_running() and not loop.is_closed()

    def _settle(self) -> None:
        """Note that the platform is started on the running event loop."""
        with self._deciding:
            self._home, self._process = asyncio.get_running_loop(), os.getpid()

    async def start(self) -> Running:
        """Start the platform on the running event loop, unless it is started there.

        Concurrent callers share the outcome of one start.

        Raises:
            ConfigurationError: It can't be started, or is started on another event loop.
        """
        here, running, starting = asyncio.get_running_loop(), self._state.running, self._starting
        if running is not None and running.loop is here:
            return running
        if starting is None or starting.done() or starting.get_loop() is not here:
            if running is None:
                self._settle()
            self._starting = starting = asyncio.create_task(self._start(), name="nexus-start")
        return await asyncio.shield(starting)

    async def start_here(self) -> Running:
        """Start on the running event loop, also where calls have had it started on another: there it is stopped."""
        here, own, running = asyncio.get_running_loop(), self._own, self._state.running
        if own is not None and own.is_alive and own.loop is not here:
            with suppress(RunCancelled):
                await hand_over(own.loop, self.stop())
            self._end_own()
        elif running is not None and not self._is_held and running.loop is not here and self._is_there(running.loop):
            with suppress(RunCancelled):
                await hand_over(running.loop, self.stop())
        started = await self.start()
        self._is_held = True
        return started

    async def enter(self) -> Running:
        """Start for a caller that will call `stop`. If it is cancelled meanwhile, `stop` is called here."""
        try:
            return await self.start_here()
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop what was started on the running event loop, if anything was."""
        self._starting = None  # who asks from now on wants it started once this has stopped it
        await asyncio.shield(asyncio.create_task(self._stop(), name="nexus-stop"))

    def stop_own(self) -> bool:
        """Stop the platform on its own event loop soon, and end that. Returns whether there is one; from any thread."""
        own = self._own
        if own is None or not own.is_alive:
            return False

        async def stop() -> None:
            await self.stop()
            self._end_own()

        asyncio.run_coroutine_threadsafe(stop(), own.loop)
        return True

    def _end_own(self) -> None:
        with self._deciding:
            own, self._own = self._own, None
            if own is None:
                return
            if self._home is own.loop:
                self._home = None
        atexit.unregister(self._stop_at_exit)
        own.end()

    def _stop_at_exit(self, own: OwnLoop) -> None:
        """Let running work finish, and plugins write what they have to write, when the process ends."""
        if own.is_alive:

            async def stop() -> None:
                async with asyncio.timeout(self._state.options.shutdown_grace + EXIT_SECONDS):
                    await self.stop()

            with suppress(RunCancelled, TimeoutError):
                wait_for(own.loop, stop())
            own.end()
            own.join(1.0)

    async def _start(self) -> Running:
        async with self._lock():
            running = self._state.running
            if running is not None and running.loop is not asyncio.get_running_loop():
                if not running.loop.is_closed() and not self._is_lost():
                    raise ConfigurationError("The platform is started on another event loop: stop it there first.")
                self._abandon(running)
            if self._state.running is None:
                self._state.running = await lifecycle.start(self._state)
                self._started_in = os.getpid()
            return self._state.running

    def _is_lost(self) -> bool:
        """Whether the thread of what is started is in the process that this one was forked from."""
        return self._started_in != os.getpid()

    async def _stop(self) -> None:
        async with self._lock():
            running = self._state.running
            if running is None or running.loop is not asyncio.get_running_loop():
                return
            try:
                await lifecycle.stop(self._state, running)  # what still runs may call workflows meanwhile
            finally:
                self._state.running, self._is_held = None, False
                self._state.processes.close()
                self._state.workflow_threads.rest()
                self._state.threads.rest()

    def _lock(self) -> asyncio.Lock:
        """Return the lock around changes. It belongs to the event loop it was first waited for on."""
        here = asyncio.get_running_loop()
        loop, lock = self._changing
        if loop is not here:
            if loop is not None and lock.locked() and loop.is_running():
                raise ConfigurationError("The platform is being started or stopped on another event loop.")
            self._changing = here, (lock := asyncio.Lock())
        return lock

    def _abandon(self, running: Running) -> None:
        """Forget what was started on an event loop that was closed without a stop: nothing of it can be awaited."""
        self._state.running, self._is_held = None, False
        for handler in running.handlers:
            self._state.events.remove_handler(handler)
