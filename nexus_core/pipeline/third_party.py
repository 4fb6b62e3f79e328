"""Guards around the interceptors and authorizers of third-party plugins: what they do wrong ends their call alone.

First-party ones are not wrapped, so that a call through them costs nothing more.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.guarded import OwnTaskLimit, TimeLimitPassed
from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.concurrency.threads import ENDS_PROCESS
from nexus_core.errors import ConfigurationError, NexusError, WorkflowTimeout
from nexus_core.pipeline.invocation import Invocation
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from nexus_core.concurrency.timers import Timers
    from nexus_core.pipeline.authorization import Authorizer
    from nexus_core.pipeline.stage import Call, Interceptor
    from nexus_core.types.principal import Principal

log = logging.getLogger(__name__)

FAULT = "Internal error; the server's log has the reason."


class GuardedInterceptor:
    """An interceptor whose faults are logged under the names of its plugin and its class, and end its call alone.

    Args:
        interceptor: The interceptor.
        plugin: The plugin that it is from.
        timers: Where time limits are kept.
        seconds: How long it may take itself, without the call that it passes on; None for no limit.
    """

    def __init__(self, interceptor: Interceptor, plugin: str, timers: Timers, seconds: float | None) -> None:
        self.stage = int(interceptor.stage)
        self.name = f'The interceptor {type(interceptor).__name__} of the plugin "{plugin}"'
        self.interceptor = interceptor
        self._timers = timers
        self._seconds = seconds
        self._reports = RateLimitedLog(log)

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        """Pass the invocation to the interceptor; up to `Stage.LIMIT` it may be a mere `Caller`."""
        seconds = self._seconds
        timeout = invocation.timeout if isinstance(invocation, Invocation) else None
        if timeout is not None and 0 < timeout < (seconds or float("inf")):
            seconds = timeout
        limit = OwnTaskLimit(self._timers, seconds)
        turn = _Turn(limit, call_next)
        try:
            with limit:
                value: Any = self.interceptor(invocation, call_next=turn.call_next)
                value = await value if inspect.isawaitable(value) else value
        except TimeLimitPassed as exc:
            self._reports.log(logging.ERROR, "late", "%s did not end within %g s", self.name, exc.seconds)
            raise WorkflowTimeout(f"The call was not processed within {exc.seconds:g} seconds.") from None
        except (Exception, asyncio.CancelledError, *ENDS_PROCESS) as exc:
            if exc is turn.raised or isinstance(exc, NexusError | ConfigurationError) or _is_cancelled(exc):
                raise
            self._reports.failure("raised", exc, "%s raised", self.name)
            raise NexusError(FAULT) from None
        if isinstance(value, Result):
            return value
        self._reports.log(logging.ERROR, "value", "%s %s", self.name, turn.mistake(value))
        raise NexusError(FAULT)


def _is_cancelled(exc: BaseException) -> bool:
    """Whether an exception is the call's own cancellation. An interceptor may raise that class by itself."""
    task = asyncio.current_task()
    return isinstance(exc, asyncio.CancelledError) and task is not None and task.cancelling() > 0


class _Turn:
    """One call's way through an interceptor, and how far it has come. Its time stands still while the call goes on."""

    __slots__ = ("_call_next", "_limit", "_passing", "is_passed_on", "raised", "returned")

    def __init__(self, limit: OwnTaskLimit, call_next: Call) -> None:
        self._limit = limit
        self._call_next = call_next
        self._passing = 0
        self.is_passed_on = self.returned = False
        self.raised: BaseException | None = None

    def call_next(self, invocation: Invocation) -> Awaitable[Result]:
        self.is_passed_on = True
        return self._pass_on(invocation)

    async def _pass_on(self, invocation: Invocation) -> Result:
        self._passing += 1
        self._limit.pause()
        try:
            result = await self._call_next(invocation)
        except BaseException as exc:
            self.raised = exc
            raise
        finally:
            self._passing -= 1
            if not self._passing:
                self._limit.resume()
        self.returned = True
        return result

    def mistake(self, value: object) -> str:
        """Return what an interceptor has forgotten that gave something else than a result."""
        if inspect.iscoroutine(value):
            value.close()
            return "returned a coroutine: `await` is missing. Write `return await call_next(invocation)`"
        if value is not None:
            return (
                f"returned a {type(value).__name__} and not a Result: return what `await call_next(invocation)` returns"
            )
        if self.returned:
            return "returned None: `return` is missing. Write `return await call_next(invocation)`"
        if self.is_passed_on:
            return (
                "returned None and did not wait for the call: `return await` is missing before `call_next(invocation)`"
            )
        return "returned None and did not pass the call on: return a Result, or raise a NexusError"


def _permissions(granted: Any) -> frozenset[str]:
    """Return what an authorizer grants. Verdicts by permission are refused: their keys would be granted with False."""
    if isinstance(granted, str | Mapping):
        raise TypeError(
            f"it returned a {type(granted).__name__} and not a collection of the permissions that are granted"
        )
    return frozenset(granted)


class GuardedAuthorizer:
    """An authorizer that grants nothing when it fails or takes too long.

    Args:
        authorizer: The authorizer.
        plugin: The plugin that it is from.
        timers: Where time limits are kept.
        seconds: How long it may take; None for no limit.
    """

    def __init__(self, authorizer: Authorizer, plugin: str, timers: Timers, seconds: float | None) -> None:
        self._authorizer = authorizer
        self._name = f'The authorizer {type(authorizer).__name__} of the plugin "{plugin}"'
        self._timers = timers
        self._seconds = seconds
        self._reports = RateLimitedLog(log)

    async def granted(self, principal: Principal | None, permissions: frozenset[str]) -> Collection[str]:
        """See `Authorizer`."""
        try:
            with OwnTaskLimit(self._timers, self._seconds):
                return _permissions(await self._authorizer.granted(principal, permissions))
        except NexusError:
            raise
        except TimeLimitPassed as exc:
            self._reports.log(logging.ERROR, "late", "%s did not end within %g s", self._name, exc.seconds)
            raise WorkflowTimeout(f"The permissions were not checked within {exc.seconds:g} seconds.") from None
        except (Exception, *ENDS_PROCESS) as exc:
            self._reports.failure("raised", exc, "%s raised", self._name)
            raise NexusError(FAULT) from None
