"""`Verdict`: what a check has said, whatever it returned or raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import ConfigurationError, NexusError
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_health.redaction import Shown

HEALTHY, UNHEALTHY = "healthy", "unhealthy"

MAX_BYTES = 16 * 1024
"""The most that a check may return, as JSON text."""

MAX_PARTS = 100
"""Services that one check may tell of."""

EXPECTED = 'expected {"status": "healthy"} or {"status": "unhealthy", "error": ...}, or one of these for each service'


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is healthy.

    Attributes:
        is_healthy: Whether it is.
        error: Why not, without secrets.
        details: What else the check has said, as JSON values.
        parts: The verdict on each service, where a check tells of several.
    """

    is_healthy: bool
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``healthy`` or ``unhealthy``."""
        return HEALTHY if self.is_healthy else UNHEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, without empty members."""
        members: dict[str, Any] = {"status": self.status}
        if self.error is not None:
            members["error"] = self.error
        if self.details:
            members["details"] = self.details
        return members


def judge(returned: Any, redactor: Shown, *, is_strict: bool) -> Verdict:
    """Return what a check means by what it has returned.

    Args:
        returned: That.
        redactor: Takes secrets out.
        is_strict: Whether it must be a dictionary that says so; else nothing, True and a text are healthy as well.
    """
    if not isinstance(returned, Mapping):
        is_silent = returned is None or returned is True or isinstance(returned, str)  # PONG, say
        return Verdict(True) if is_silent and not is_strict else _wrong(f"it returned {_kind(returned)}")
    try:
        text = jsontext.encode(returned)
    except Exception as exc:
        return _wrong(f"it returned what is not JSON ({redactor.text(_text_of(exc), 150)})")
    if len(text) > MAX_BYTES:
        return Verdict(False, f"it returned {len(text)} bytes of JSON: at most {MAX_BYTES} are taken")
    given = jsontext.parse_trusted(text)
    if not given and is_strict:
        return Verdict(True)  # there are no services to tell of
    if isinstance(given.get("status"), dict) or "status" not in given:
        if given and all(isinstance(each, dict) for each in given.values()):
            return _of_parts(given, redactor)
        if not is_strict:
            return Verdict(True, details=redactor.value(given))
        return _wrong("it returned a dictionary without a status")
    return _one(given, redactor)


def _of_parts(given: dict[str, Any], redactor: Shown) -> Verdict:
    if len(given) > MAX_PARTS:
        return Verdict(False, f"it told of {len(given)} services: at most {MAX_PARTS} are taken")
    parts = {printable(name): _one(each, redactor) for name, each in given.items()}
    broken = [name for name, part in parts.items() if not part.is_healthy]
    return Verdict(not broken, f"affected: {', '.join(broken)}"[:300] if broken else None, {}, parts)


def _one(given: dict[str, Any], redactor: Shown) -> Verdict:
    details = dict(given)
    status, error = details.pop("status", None), details.pop("error", None)
    if status not in (HEALTHY, UNHEALTHY):
        said = f"the status '{redactor.text(status, 40)}'" if isinstance(status, str) else "no text as status"
        return _wrong(f"it returned {said}" if "status" in given else "it returned a dictionary without a status")
    if error is not None:
        error = redactor.text(error if isinstance(error, str) else jsontext.encode(error).decode())
    return Verdict(status == HEALTHY, error, redactor.value(details))


def _wrong(what: str) -> Verdict:
    return Verdict(False, f"{what}; {EXPECTED}")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def of_exception(exc: BaseException, redactor: Shown) -> Verdict:
    """Return what an exception that a check has raised means."""
    text = redactor.text(_text_of(exc))
    if isinstance(exc, NexusError | ConfigurationError) or type(exc) is RuntimeError:
        return Verdict(False, text or type(exc).__name__)
    name = printable(type(exc).__name__)
    return Verdict(False, f"{name}: {text}" if text else name)


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return "its text can't be read"
