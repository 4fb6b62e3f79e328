"""A platform that owns its process: its logs, the signals that stop it, and requests to."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from typing import TYPE_CHECKING

from nexus_core.app.applications import leave_start_to_loader
from nexus_core.concurrency import allocator, process
from nexus_core.concurrency.threads import call_on
from nexus_core.concurrency.watchdog import Watchdog
from nexus_core.concurrency.worker_processes import is_loading_main
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from nexus_core.app.nexus import Nexus

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


def run_process(nexus: Nexus) -> None:
    """Serve until a signal or a `StopRequest`; what prevents the start is one line on stderr and exit code 1."""
    _refuse_running_loop()
    if is_loading_main():
        return  # a worker process that looks for its function in a program without `if __name__ == "__main__":`
    leave_start_to_loader(nexus)
    try:
        _show_logs(nexus)
        allocator.limit_kept_memory()
        with Watchdog(nexus.stop_request.make, nexus.options.shutdown_grace) as watchdog:
            process.run(_serve_until_stopped(nexus, watchdog), owns_signals=True)
    except ConfigurationError as exc:
        print(f"nexus: {exc}", file=sys.stderr)
        raise SystemExit(1) from None


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigurationError(
        "nexus.start() needs a thread without a running event loop, and here one runs, as in notebooks and async code: "
        "serve with `async with nexus.serving(): ...`, or in a thread: `threading.Thread(target=nexus.start).start()`, "
        "which nexus.stop() ends."
    )


def _show_logs(nexus: Nexus) -> None:
    """Give logging plugins' handlers, or one of its own, unless the application has seen to it."""
    if logging.getLogger().handlers:
        return
    given: list[logging.Handler] = []
    for plugin, handler in nexus.plugins.collect("nexus_register_log_handlers", nexus=nexus):
        if isinstance(handler, logging.Handler):
            given.append(handler)
        else:
            nexus.plugins.fail(plugin, f"nexus_register_log_handlers gave a {type(handler).__name__}")
    logging.basicConfig(
        level=nexus.options.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=given or None,
    )


async def _serve_until_stopped(nexus: Nexus, watchdog: Watchdog) -> None:
    loop = asyncio.get_running_loop()
    watchdog.watch(loop)
    ending = nexus.stop_request.attach(loop)
    try:
        async with nexus.serving() as bound:
            gc.collect()
            gc.freeze()  # what the start has made lives as long as the process: never look through it again
            for listener in bound:
                log.info("Listening on %s: %s", listener.url, ", ".join(listener.channels))
            await ending.wait()
            log.info("Stopping")
    finally:
        nexus.stop_request.detach()
