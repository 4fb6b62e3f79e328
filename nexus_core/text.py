"""Text for messages, logs and terminals: escaped, on one line, of bounded length; and the nearest known name."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 controls, line and paragraph separators, bidirectional embeddings, overrides and isolates (CVE-2021-42574),
and lone surrogates, which no encoding has. Spaces of every width, joiners and soft hyphens are text."""

_CREDENTIAL_IN_PATH = re.compile(r"(/(?:sessions|answers)/)[^/]+")


def escaped(text: str, keep: str = "") -> str:
    r"""Return text with what a terminal, or the reader's eye, would obey as JSON escapes, such as ``\u202e``.

    A JSON text stays the same value.

    Args:
        text: The text.
        keep: Characters that stay.
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)


def printable(text: str, limit: int = 100) -> str:
    """Return a caller's text for use in a message: one line, of bounded length, escaped as `escaped` does it."""
    if len(text) <= limit and text.isprintable():
        return text
    shown = escaped(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that a misspelt one most likely means, or None."""
    found = difflib.get_close_matches(name[:100], known, n=1)
    return found[0] if found else None


def one_line(exc: BaseException) -> str:
    """Return an error's class and message for a log line."""
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text[:300]}" if text else type(exc).__name__


def shown_path(path: str) -> str:
    """Return what logs show of a request's path: not the id of a session or the token of a link in it."""
    return _CREDENTIAL_IN_PATH.sub(r"\1...", path)
