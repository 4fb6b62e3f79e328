"""Values as the JSON text that is stored of a run, whatever is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

STORED_CHARACTERS = 10_000
"""Characters that are stored of a text that has to be escaped."""


def stored_text(members: Mapping[str, Any]) -> bytes:
    """Return members as JSON text, whatever is in them: a run must end in the store too when its error is odd."""
    try:
        return jsontext.encode(members)
    except (TypeError, ValueError):
        return jsontext.encode(_storable(members))


def _storable(value: Any) -> Any:
    """Return a value with text in place of what has no JSON form, and escapes in place of lone surrogates."""
    try:
        return jsontext.plain(value)
    except (TypeError, ValueError):
        if isinstance(value, dict):
            return {printable(str(name)): _storable(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [_storable(each) for each in value]
        return printable(str(value), STORED_CHARACTERS) if isinstance(value, str) else f"<{type(value).__name__}>"
