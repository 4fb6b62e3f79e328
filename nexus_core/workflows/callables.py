"""What is behind a callable, however it was made: partial calls, decorators, methods, classes, callable objects."""

from __future__ import annotations

import functools
import inspect
from types import CodeType
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RECEIVERS = ("self", "cls")


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature that calls of a callable must fit.

    `inspect.signature` has that of the wrapped function where a partial call says what it wraps, as
    ``update_wrapper(partial(f, 10), f)`` does: with the arguments that are bound.

    Raises:
        TypeError, ValueError: It has none.
    """
    for each in _layers(function):
        if isinstance(each, functools.partial):

            def called() -> None: ...

            called.__signature__ = signature_of(each.func)  # type: ignore[attr-defined]
            return inspect.signature(functools.partial(called, *each.args, **each.keywords))
        if getattr(each, "__signature__", None) is not None:
            break
    return inspect.signature(function)


def _layers(function: Any) -> Iterator[Any]:
    """Yield a callable and what it wraps, layer by layer."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)


def implementation_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that is behind decorators, partial calls, a class or a callable object."""
    target = inspect.unwrap(function)
    while isinstance(target, functools.partial):
        target = inspect.unwrap(target.func)
    if inspect.isclass(target):
        return target.__init__
    return target if inspect.isroutine(target) else inspect.unwrap(type(target).__call__)


def has_attribute(function: Callable[..., Any], names: frozenset[str]) -> bool:
    """Whether the code of a function, or of one defined in it, uses an attribute with one of the names.

    Other functions that it calls are not searched.
    """
    codes = [getattr(implementation_of(function), "__code__", None)]
    while codes:
        code = codes.pop()
        if code is not None:
            if not names.isdisjoint(code.co_names):
                return True
            codes += [each for each in code.co_consts if isinstance(each, CodeType)]
    return False


def takes_first_by_position(function: Any) -> bool:
    """Whether the first argument must have no name, as that of `functools.singledispatch` must."""
    return any(hasattr(each, "dispatch") and hasattr(each, "registry") for each in _layers(function))


def check_callable(name: str, function: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
    """Refuse what would fail in each call, or in each but the first.

    Args:
        name: The workflow's name, for messages.
        function: The callable.
        parameters: Those of its signature.

    Raises:
        ConfigurationError: It is a method without its object, or a cache of what can be used only once.
    """
    implementation = implementation_of(function)
    first = parameters[0].name if parameters else None
    is_unbound = hasattr(function, "_partialmethod") or hasattr(function, "__partialmethod__")
    if first in _RECEIVERS and (_is_in_class(implementation) or (is_unbound and inspect.isfunction(function))):
        owner = implementation.__qualname__.rpartition(".")[0]
        raise ConfigurationError(
            f"{name}: {implementation.__qualname__} is a method, and callers can't give its {first!r}. Register an "
            f"object's, nexus.register({name!r}, {owner}(...).{implementation.__name__}), or make it a staticmethod."
        )
    gives_once = inspect.iscoroutinefunction(implementation) or inspect.isgeneratorfunction(implementation)
    if (gives_once or inspect.isasyncgenfunction(implementation)) and any(map(_is_cache, _layers(function))):
        raise ConfigurationError(
            f"{name}: functools.cache would return the same coroutine or generator each time, which can be used once. "
            "Cache results with metadata cache=True (plugin cache) instead."
        )


def _is_in_class(function: Any) -> bool:
    around = getattr(function, "__qualname__", "").rpartition(".")[0].rpartition(".")[2]
    return around not in ("", "<locals>") and not inspect.ismethod(function)


def _is_cache(function: Any) -> bool:
    return hasattr(function, "cache_info") and hasattr(function, "cache_clear")
