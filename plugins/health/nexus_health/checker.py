"""`HealthChecker`: custom health checks, each a method ``check_...``."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from nexus_core.errors import ConfigurationError
from nexus_core.options.settings import MAX_SECONDS
from nexus_core.text import nearest, one_line
from nexus_core.types.health import HealthCheck

log = logging.getLogger(__name__)

PREFIX = "check_"
_DESCRIPTORS = (staticmethod, classmethod, functools.partialmethod)

Method = TypeVar("Method", bound=Callable[..., Any])


class HealthChecker:
    """Subclass it, add methods ``check_...``, and ``nexus.register_health_checker(Checker())``.

    Each method whose name begins with ``check_`` is a check; sync ones run in threads. It returns
    ``{"status": "healthy"}`` or ``{"status": "unhealthy", "error": ...}``, with optional details, or such a dictionary
    for each of several services. An exception means unhealthy. Subclasses need not call `__init__`.

    Args:
        db_client: A database client for the checks, as an attribute.
        external_services: URLs by name for the checks, as an attribute.

    Attributes:
        db_client: Default: None.
        external_services: Default: empty.
        critical: Whether unhealthy checks make the platform not ready.
        non_critical: Names of methods that are not critical.
        timeouts: Time limits in seconds by method name. Default: ``health_check_timeout``.
    """

    db_client: Any = None
    critical: bool = True
    non_critical: Collection[str] = ()
    timeouts: Mapping[str, float] = MappingProxyType({})

    def __init__(self, *, db_client: Any = None, external_services: Mapping[str, str] | None = None) -> None:
        if db_client is not None:
            self.db_client = db_client
        if external_services is not None:
            self.external_services = dict(external_services)

    @functools.cached_property
    def external_services(self) -> dict[str, str]:
        """URLs by name."""
        return {}


def check(*, timeout: float | None = None, critical: bool | None = None) -> Callable[[Method], Method]:
    """Set the time limit of a method ``check_...``, and whether it is critical: ``@check(timeout=2)``.

    Args:
        timeout: Seconds. Default: that of the checker, else ``health_check_timeout``.
        critical: Default: that of the checker.
    """

    def decorate(method: Method) -> Method:
        method.nexus_check = (timeout, critical)  # type: ignore[attr-defined]
        return method

    return decorate


def checks_of(checker: object) -> list[HealthCheck]:
    """Return the checks of an object, by the names of its methods without ``check_``.

    Raises:
        ConfigurationError: It has no check, or an invalid attribute.
    """
    if isinstance(checker, type):
        raise ConfigurationError(
            f"register_health_checker takes an object, not the class {checker.__name__}: {checker.__name__}()."
        )
    kind = type(checker).__name__
    try:
        return _checks_of(checker, kind)
    except ConfigurationError:
        raise
    except Exception as exc:  # attributes may be properties
        raise ConfigurationError(f"The checks of the health checker {kind} can't be read: {one_line(exc)}") from exc


def _checks_of(checker: object, kind: str) -> list[HealthCheck]:
    methods = dict(_methods(checker))
    if not methods:
        raise ConfigurationError(f"The health checker {kind} has no method {PREFIX}...")
    timeouts = _named(kind, "timeouts", getattr(checker, "timeouts", None) or {}, methods)
    quiet = getattr(checker, "non_critical", None) or ()
    non_critical = _named(kind, "non_critical", (quiet,) if isinstance(quiet, str) else quiet, methods)
    is_critical = bool(getattr(checker, "critical", True))
    found = []
    for name, method in methods.items():
        seconds, critical = getattr(method, "nexus_check", (None, None))
        seconds = timeouts.get(name) if seconds is None else seconds
        decides = is_critical and name not in non_critical if critical is None else bool(critical)
        found.append(HealthCheck(name.removeprefix(PREFIX), method, decides, _seconds(kind, name, seconds)))
    return found


def _methods(checker: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the methods that are checks, without evaluating properties."""
    for name in sorted({*dir(checker)}):
        if not name.startswith(PREFIX) or name == PREFIX:
            continue
        found = inspect.getattr_static(checker, name, None)
        if isinstance(found, type) or not (callable(found) or isinstance(found, _DESCRIPTORS)):
            continue
        method = getattr(checker, name)
        if _takes_nothing(method):
            yield name, method
        else:
            log.warning("%s.%s is not used as a check: it takes arguments", type(checker).__name__, name)


def _takes_nothing(method: Callable[..., Any]) -> bool:
    try:
        inspect.signature(method).bind()
    except TypeError:
        return False
    except ValueError:  # no signature is known
        return True
    return True


def _named(kind: str, attribute: str, given: Any, methods: Collection[str]) -> dict[str, Any]:
    """Return the values of an attribute by method name, given with or without ``check_``."""
    if not isinstance(given, Collection):
        raise ConfigurationError(f"{kind}.{attribute} must hold method names, not be a {type(given).__name__}.")
    named: dict[str, Any] = {}
    for each in given:
        name = f"{PREFIX}{str(each).removeprefix(PREFIX)}"
        if name not in methods:
            near = nearest(name, list(methods))
            hint = f"; did you mean {near!r}?" if near else ""
            raise ConfigurationError(f"{kind}.{attribute} names the unknown method {each!r}{hint}")
        named[name] = given[each] if isinstance(given, Mapping) else True
    return named


def _seconds(kind: str, name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_SECONDS:
        raise ConfigurationError(f"{kind}.{name}: the time limit must be a positive number of seconds, not {value!r}.")
    return float(value)
