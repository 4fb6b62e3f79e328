"""The one way through: interceptors sorted by stage and composed, once, into one callable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from functools import partial
from typing import Protocol

from nexus_core.pipeline.invocation import Invocation
from nexus_core.types.result import Result

Call = Callable[[Invocation], Awaitable[Result]]
"""The rest of the pipeline. It returns the result or raises a `NexusError`."""


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
    BREAKER = 90


class Interceptor(Protocol):
    """One policy. Given by ``nexus_register_interceptors``; called with each invocation that gets so far."""

    @property
    def stage(self) -> int:
        """A `Stage`, or a number between two: ``Stage.AUTHENTICATE - 1`` is passed just before authentication."""

    def __call__(self, invocation: Invocation, call_next: Call) -> Awaitable[Result]:
        """Return the result of ``await call_next(invocation)``, or one of its own, or raise a `NexusError`."""


def compose(interceptors: Iterable[Interceptor], execute: Call) -> Call:
    """Return one callable that passes an invocation through every interceptor, lowest stage first, to ``execute``."""
    call = execute
    for interceptor in reversed(sorted(interceptors, key=lambda each: each.stage)):
        call = partial(interceptor, call_next=call)
    return call
