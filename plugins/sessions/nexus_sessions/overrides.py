"""`Overrides`: the methods that a user's session manager overrides, called with a time limit."""

from __future__ import annotations

import contextvars
import logging
from typing import TYPE_CHECKING, Any

from nexus_core import BackendUnavailable, NexusError
from nexus_core.concurrency.guarded import GuardedCaller, TimeLimitPassed
from nexus_core.concurrency.threads import overridden
from nexus_sessions.unit_of_work import current_unit

if TYPE_CHECKING:
    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_sessions.unit_of_work import UnitOfWork

log = logging.getLogger(__name__)

THREADS = 32
"""Maximum number of sync methods that run at a time, including hanging ones."""

METHODS = (
    "create_session", "get_session", "sync_session_state", "notify_channel", "cleanup_expired_sessions",
    "cleanup_session_resources", "remove_session",
)  # fmt: skip
"""The methods that the platform calls if they are overridden."""


class Overrides:
    """Calls overridden methods: async ones on the event loop, sync ones in a thread.

    Args:
        manager: The manager, or None.
        base: `SessionManager`, whose own methods are no overrides.
        threads: The threads for sync methods.
        timeout: Time limit for each call, in seconds.
    """

    def __init__(self, manager: object | None, base: type, threads: DaemonThreads, timeout: float) -> None:
        self._caller = GuardedCaller(threads, timeout, THREADS, waits=True)
        self._methods = {name: method for name in METHODS if (method := overridden(manager, base, name)) is not None}
        self.timeout = timeout

    def has(self, name: str) -> bool:
        """Whether the manager overrides a method."""
        return name in self._methods

    async def call(self, unit: UnitOfWork, name: str, *args: Any, seconds: float | None = None) -> Any:
        """Call an overridden method and return its result.

        Args:
            unit: The unit of work.
            name: The method's name.
            *args: Its arguments.
            seconds: Time limit if it is not the usual one.

        Raises:
            BackendUnavailable: The method has timed out.
            NexusError: The method's own `NexusError`, or one that hides another exception.
        """
        context = contextvars.copy_context()
        context.run(current_unit.set, unit)
        try:
            return await self._caller.call(self._methods[name], *args, seconds=seconds, context=context)
        except TimeLimitPassed:
            limit = seconds or self.timeout
            log.error("The session manager's %s did not return within %g s", name, limit)
            raise BackendUnavailable(
                f"The session manager did not return within {limit:g} s.", retry_after=1.0
            ) from None
        except NexusError:
            raise  # meant for the caller
        except Exception as exc:
            raise failure(name, "raised", exc) from None


def failure(name: str, what: str, exc: BaseException | None = None) -> NexusError:
    """Log a method's wrong behaviour, and return the error for the caller, which contains no details.

    Args:
        name: The method's name.
        what: What the method did, such as ``raised``.
        exc: The exception it raised.
    """
    log.error("The session manager's %s %s", name, what, exc_info=exc)
    return NexusError("The session manager failed; the server's log has the reason.")
