"""A platform that owns its process: its logs, the signals that stop it, and requests to."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from typing import TYPE_CHECKING

from nexus_core.concurrency import allocator, process
from nexus_core.concurrency.threads import call_on
from nexus_core.concurrency.watchdog import Watchdog
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from nexus_core.app.state import PlatformState
    from nexus_core.server.channel import Listener

    Serving = Callable[[], AbstractAsyncContextManager[list[Listener]]]

log = logging.getLogger(__name__)


class StopRequest:
    """Asks a process that serves to stop, from any thread; one that is made before it serves is not lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = False
        self._told: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """Return the event, of the running event loop, that a request sets."""
        event = asyncio.Event()
        with self._lock:
            self._told = loop, event
            if self._made:
                event.set()
        return event

    def make(self) -> None:
        """Ask for the stop."""
        with self._lock:
            self._made = True
            if self._told is not None:
                loop, event = self._told
                call_on(loop, event.set)

    def detach(self) -> None:
        """Forget the request: it has been heard."""
        with self._lock:
            self._made, self._told = False, None


def run_process(state: PlatformState, serving: Serving, stop_request: StopRequest) -> None:
    """Serve until a signal or a `StopRequest`; what prevents the start is one line on stderr and exit code 1.

    Args:
        state: The parts of the platform.
        serving: See `Nexus.serving`.
        stop_request: Ends it.
    """
    try:
        _show_logs(state)
        allocator.limit_kept_memory()
        with Watchdog(stop_request.make, state.options.shutdown_grace) as watchdog:
            process.run(_serve_until_stopped(serving, stop_request, watchdog), owns_signals=True)
    except ConfigurationError as exc:
        print(f"nexus: {exc}", file=sys.stderr)
        raise SystemExit(1) from None


def refuse_running_loop() -> None:
    """Refuse `Nexus.start` where an event loop runs on this thread.

    Raises:
        ConfigurationError: One does.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigurationError(
        "nexus.start() needs a thread without a running event loop, and here one runs, as in notebooks and async code: "
        "serve with `async with nexus.serving(): ...`, or in a thread: `threading.Thread(target=nexus.start).start()`, "
        "which nexus.stop() ends."
    )


def _show_logs(state: PlatformState) -> None:
    """Give logging plugins' handlers, or one of its own, unless the application has seen to it."""
    if logging.getLogger().handlers:
        return
    given: list[logging.Handler] = []
    for plugin, handler in state.plugins.collect("nexus_register_log_handlers"):
        if isinstance(handler, logging.Handler):
            given.append(handler)
        else:
            state.plugins.fail(plugin, f"nexus_register_log_handlers returned a {type(handler).__name__}")
    logging.basicConfig(
        level=state.options.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=given or None,
    )


async def _serve_until_stopped(serving: Serving, stop_request: StopRequest, watchdog: Watchdog) -> None:
    loop = asyncio.get_running_loop()
    watchdog.watch(loop)
    ending = stop_request.attach(loop)
    try:
        async with serving() as bound:
            gc.collect()
            gc.freeze()  # what the start has made lives as long as the process: never look through it again
            for listener in bound:
                log.info("Listening on %s: %s", listener.url, ", ".join(listener.channels))
            await ending.wait()
            log.info("Stopping")
    finally:
        stop_request.detach()
