"""`Blocking`: what lives on an event loop, used from a thread. Each call waits there until the loop has done it."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.concurrency import own_loop
from nexus_core.concurrency.threads import is_current_loop
from nexus_core.errors import RunCancelled

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator

Value = TypeVar("Value")

_END = object()


def wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Value]) -> Value:
    """Let an event loop do something, and wait for it in this thread, whose context variables it sees.

    Raises:
        RuntimeError: This is the event loop's own thread, which must not wait, or the event loop ends.
    """
    if is_current_loop(loop) or not loop.is_running():
        work.close()
        why = "this is its own thread: use `async with` and `await`" if is_current_loop(loop) else "it does not run"
        raise RuntimeError(f"A thread can't wait for this event loop: {why}.")
    try:
        return own_loop.wait_for(loop, work)
    except RunCancelled:
        raise RuntimeError("The event loop ended while a thread waited for it.") from None


class Blocking:
    """An object whose methods are called on its event loop, and awaited there: ``fetch(...)`` for ``await fetch(...)``.

    So are those of async objects that they return. ``with`` and ``for`` stand for ``async with`` and ``async for``.

    Args:
        target: The object.
        loop: Its event loop.
        plain: Classes of results that are used as they are: they need no event loop.
    """

    __slots__ = ("_loop", "_plain", "_target")

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop, plain: tuple[type, ...] = ()) -> None:
        self._target = target
        self._loop = loop
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return self._wrapped(value)

        def call(*args: Any, **kwargs: Any) -> Any:
            given = [each._target if isinstance(each, Blocking) else each for each in args]
            value_of_call = wait_for(self._loop, _call(value, given, kwargs))
            is_plain = isinstance(value_of_call, self._plain) and getattr(value_of_call, "is_closed", True)
            return value_of_call if is_plain else self._wrapped(value_of_call)

        return call

    def _wrapped(self, value: Any) -> Any:
        kind: Any = type(value)
        return Blocking(value, self._loop, self._plain) if _is_async(kind) else value

    def __enter__(self) -> Any:
        return self._wrapped(wait_for(self._loop, _call(type(self._target).__aenter__, [self._target], {})))

    def __exit__(self, *error: Any) -> Any:
        return wait_for(self._loop, _call(type(self._target).__aexit__, [self._target, *error], {}))

    def __iter__(self) -> Iterator[Any]:
        items = aiter(self._target)
        while (item := wait_for(self._loop, _next(items))) is not _END:
            yield self._wrapped(item)

    def __repr__(self) -> str:
        return f"Blocking({self._target!r})"


async def _next(items: Any) -> Any:
    return await anext(items, _END)


async def _call(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    is_used_otherwise = hasattr(value, "__aenter__") or hasattr(value, "__aiter__")
    return await value if inspect.isawaitable(value) and not is_used_otherwise else value


@lru_cache(1000)
def _is_async(kind: Any) -> bool:
    """Whether objects of a class need their event loop."""
    members = (inspect.getattr_static(kind, name, None) for name in dir(kind))
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in members) or any(
        hasattr(kind, name) for name in ("__aenter__", "__aiter__", "__await__")
    )
