"""JSON lines that stay single lines wherever they are displayed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that JSON does not escape, and that are control characters, line breaks or direction marks."""

_encode = msgspec.json.Encoder(enc_hook=repr).encode


def json_line(members: Mapping[str, Any]) -> bytes:
    """Return an object as JSON text without line breaks and terminal control characters."""
    try:
        line = _encode(members)
    except Exception:  # the repr of a value raises, or a number exceeds 64 bits
        line = _encode(_safe(dict(members)))
    if line.isascii() and b"\x7f" not in line:
        return line
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line.decode()).encode()


def _safe(value: Any) -> Any:
    """Return a value in which texts replace what can't be encoded."""
    if isinstance(value, dict):
        return {shown(name): _safe(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_safe(each) for each in value]
    is_small = type(value) is int and -(2**63) <= value < 2**64
    return value if value is None or is_small or type(value) in (bool, float) else shown(value)


def shown(value: Any) -> str:
    """Return any value as text that can be encoded, even if its class misbehaves."""
    try:
        text = str(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(time: float) -> str:
    """Return a time in ISO 8601, to the millisecond, in UTC.

    Args:
        time: Seconds since the epoch.
    """
    second = int(time)
    return f"{_second(second)}.{int((time - second) * 1000):03d}Z"
