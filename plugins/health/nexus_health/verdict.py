"""`HealthVerdict`: the result of a health check, whatever it returned or raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import ConfigurationError, NexusError
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_health.redaction import ReportRedactor

HEALTHY, UNHEALTHY = "healthy", "unhealthy"

MAX_BYTES = 16 * 1024
"""Maximum size of a result as JSON text."""

MAX_PARTS = 100
"""Maximum services of a check."""

EXPECTED = 'expected {"status": "healthy"} or {"status": "unhealthy", "error": ...}, or one of these for each service'


@dataclass(frozen=True, slots=True)
class HealthVerdict:
    """Whether something is healthy.

    Attributes:
        is_healthy: Whether it is.
        error: The reason if not, redacted.
        details: Further members of the result, as JSON values.
        parts: The verdict on each service, if the check covers several.
    """

    is_healthy: bool
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, HealthVerdict] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``healthy`` or ``unhealthy``."""
        return HEALTHY if self.is_healthy else UNHEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without empty members."""
        members: dict[str, Any] = {"status": self.status}
        if self.error is not None:
            members["error"] = self.error
        if self.details:
            members["details"] = self.details
        return members


def judge(returned: Any, redactor: ReportRedactor, *, is_strict: bool) -> HealthVerdict:
    """Return the verdict for the return value of a check.

    Args:
        returned: The return value.
        redactor: Redacts secrets.
        is_strict: Whether a dictionary with a status is required; otherwise None, True and a text are healthy, too.
    """
    if not isinstance(returned, Mapping):
        is_silent = returned is None or returned is True or isinstance(returned, str)  # PONG, say
        return HealthVerdict(True) if is_silent and not is_strict else _wrong(f"it returned {_kind(returned)}")
    try:
        text = jsontext.encode(returned)
    except Exception as exc:
        return _wrong(f"it returned a value that is not JSON ({redactor.text(_text_of(exc), 150)})")
    if len(text) > MAX_BYTES:
        return HealthVerdict(False, f"it returned {len(text)} bytes of JSON; the maximum is {MAX_BYTES}")
    given = jsontext.parse_trusted(text)
    if not given and is_strict:
        return HealthVerdict(True)  # it covers no services
    if isinstance(given.get("status"), dict) or "status" not in given:
        if given and all(isinstance(each, dict) for each in given.values()):
            return _of_parts(given, redactor)
        if not is_strict:
            return HealthVerdict(True, details=redactor.value(given))
        return _wrong("it returned a dictionary without a status")
    return _one(given, redactor)


def _of_parts(given: dict[str, Any], redactor: ReportRedactor) -> HealthVerdict:
    if len(given) > MAX_PARTS:
        return HealthVerdict(False, f"it returned {len(given)} services; the maximum is {MAX_PARTS}")
    parts = {printable(name): _one(each, redactor) for name, each in given.items()}
    broken = [name for name, part in parts.items() if not part.is_healthy]
    return HealthVerdict(not broken, f"affected: {', '.join(broken)}"[:300] if broken else None, {}, parts)


def _one(given: dict[str, Any], redactor: ReportRedactor) -> HealthVerdict:
    details = dict(given)
    status, error = details.pop("status", None), details.pop("error", None)
    if status not in (HEALTHY, UNHEALTHY):
        said = f"the status '{redactor.text(status, 40)}'" if isinstance(status, str) else "a status that is not text"
        return _wrong(f"it returned {said}" if "status" in given else "it returned a dictionary without a status")
    if error is not None:
        error = redactor.text(error if isinstance(error, str) else jsontext.encode(error).decode())
    return HealthVerdict(status == HEALTHY, error, redactor.value(details))


def _wrong(what: str) -> HealthVerdict:
    return HealthVerdict(False, f"{what}; {EXPECTED}")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def verdict_of_exception(exc: BaseException, redactor: ReportRedactor) -> HealthVerdict:
    """Return the verdict for an exception of a check."""
    text = redactor.text(_text_of(exc))
    if isinstance(exc, NexusError | ConfigurationError) or type(exc) is RuntimeError:
        return HealthVerdict(False, text or type(exc).__name__)
    name = printable(type(exc).__name__)
    return HealthVerdict(False, f"{name}: {text}" if text else name)


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return "its message can't be read"
