"""`Overrides`: the methods that a user's manager has of its own, called within limits."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING, Any

from nexus_core import BackendUnavailable, NexusError
from nexus_core.concurrency.threads import call_on, is_async
from nexus_sessions.manager import SessionManager
from nexus_sessions.unit import current_unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_sessions.unit import Unit

log = logging.getLogger(__name__)

THREADS = 32
"""How many sync methods may be at work at a time, those included that never come back."""

METHODS = (
    "create_session", "get_session", "sync_session_state", "notify_channel", "cleanup_expired_sessions",
    "cleanup_session_resources", "remove_session",
)  # fmt: skip
"""What the platform calls of a manager, where it is overridden."""


class Overrides:
    """Calls what a manager overrides: async methods where they are, sync ones in a thread.

    Args:
        manager: The manager, or None where there is none.
        threads: Where sync methods run.
        timeout: Seconds that each call may take.
        loop: The platform's event loop.
    """

    def __init__(
        self, manager: SessionManager | None, threads: DaemonThreads, timeout: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._threads = threads
        self._loop = loop
        self._free = asyncio.Semaphore(THREADS)
        self._methods = {name: method for name in METHODS if (method := _own(manager, name)) is not None}
        self.timeout = timeout

    def has(self, name: str) -> bool:
        """Whether the manager has a method of its own."""
        return name in self._methods

    async def call(self, unit: Unit, name: str, *args: Any, seconds: float | None = None) -> Any:
        """Call one of the manager's own methods, and return what it returns.

        Args:
            unit: What it is part of.
            name: The method's name.
            *args: Its arguments.
            seconds: How long it may take, where that is not the usual time.

        Raises:
            BackendUnavailable: It has taken too long.
            NexusError: What it raises if it is one, else one that says that it has failed.
        """
        context = contextvars.copy_context()
        context.run(current_unit.set, unit)
        limit = seconds or self.timeout
        work = self._loop.create_task(self._run(self._methods[name], args), context=context)
        try:
            await asyncio.wait({work}, timeout=limit)
        finally:
            if not work.done():
                work.add_done_callback(_retrieve)
                work.cancel()
        if not work.done():
            log.error("The session manager's %s did not come back within %g s", name, limit)
            raise BackendUnavailable(f"The session manager did not answer within {limit:g} s.", retry_after=1.0)
        try:
            return work.result()
        except NexusError:
            raise  # the caller's to read
        except (Exception, asyncio.CancelledError) as exc:
            raise failure(name, "raised", exc) from None

    async def _run(self, method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if is_async(method):
            return await self._threads.call(method, *args)
        await self._free.acquire()
        return await self._threads.call(
            self._in_thread, method, args
        )  # nothing may come in between: it is released there

    def _in_thread(self, method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            return method(*args)
        finally:
            call_on(self._loop, self._free.release)


def failure(name: str, what: str, exc: BaseException | None = None) -> NexusError:
    """Return what a caller may know of a method that does not do what it should; the log gets the rest.

    Args:
        name: The method.
        what: What it has done.
        exc: What it has raised.
    """
    log.error("The session manager's %s %s", name, what, exc_info=exc)
    return NexusError("The session manager failed; the server's log has the reason.")


def _own(manager: SessionManager | None, name: str) -> Callable[..., Any] | None:
    """Return a manager's method, unless it is the one of `SessionManager`."""
    method: Callable[..., Any] | None = getattr(manager, name, None)
    return None if getattr(method, "__func__", None) is getattr(SessionManager, name) else method


def _retrieve(work: asyncio.Task[Any]) -> None:
    if not work.cancelled() and (exc := work.exception()) is not None:
        log.debug("A method of the session manager raised when nobody waited for it any more", exc_info=exc)
