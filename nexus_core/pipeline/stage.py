"""The one way through: interceptors sorted by stage and composed, once, into one callable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from functools import partial
from typing import Protocol, TypeVar, cast

from nexus_core.pipeline.invocation import Caller, Invocation
from nexus_core.types.result import Result

Call = Callable[[Invocation], Awaitable[Result]]
"""The rest of the pipeline. It returns the result or raises a `NexusError`."""

CallerCall = Callable[[Caller], Awaitable[Result]]
"""The stages that a caller passes who reads. The result has no meaning."""

AnyCaller = TypeVar("AnyCaller", bound=Caller)
"""What the stages up to `Stage.LIMIT` are passed: a `Caller` or an `Invocation`."""

CallNext = Callable[[AnyCaller], Awaitable[Result]]
"""The rest of the pipeline, for those stages: ``call_next: CallNext[AnyCaller]``."""


class Stage(IntEnum):
    """Where an interceptor stands. Within a stage the order is the one of registration."""

    OBSERVE = 0
    ADMIT = 10
    AUTHENTICATE = 20
    LIMIT = 30
    SESSION = 40
    AUTHORIZE = 50
    RESOLVE = 60
    IDEMPOTENCY = 70
    CACHE = 80
    SERIAL = 85
    BREAKER = 90


class Interceptor(Protocol):
    """One policy. Given by ``nexus_register_interceptors``; called with each invocation that gets so far.

    Those after `Stage.ADMIT` and up to `Stage.LIMIT` are also called for requests that only read (a list, a
    description, a stream), with a `Caller` that is no `Invocation`: it has no workflow and no parameters.
    """

    @property
    def stage(self) -> int:
        """A `Stage`, or a number between two: ``Stage.AUTHENTICATE - 1`` is passed just before authentication."""

    def __call__(self, invocation: Invocation, /, call_next: Call) -> Awaitable[Result]:
        """Return the result of ``await call_next(invocation)``, or one of its own, or raise a `NexusError`."""


def compose(interceptors: Iterable[Interceptor], execute: Call) -> Call:
    """Return one callable that passes an invocation through every interceptor, lowest stage first, to ``execute``."""
    call = execute
    for interceptor in reversed(sorted(interceptors, key=lambda each: each.stage)):
        call = partial(interceptor, call_next=call)
    return call


def compose_for_callers(interceptors: Iterable[Interceptor], after: int, last: int) -> CallerCall:
    """Return one callable that passes a caller through the interceptors of some stages.

    Args:
        interceptors: Those of the whole pipeline.
        after: Stages up to this one are left out.
        last: The last stage.
    """
    chosen = [each for each in interceptors if after < each.stage <= last]
    return cast("CallerCall", compose(chosen, _end))


async def _end(_: Caller) -> Result:
    """End the pipeline of a caller who calls nothing."""
    return Result(b"null", "")
