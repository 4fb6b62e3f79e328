"""Text that nothing obeys: controls, line breaks and what reorders text are escaped, everything else stays."""

from __future__ import annotations

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 controls, line and paragraph separators, bidirectional embeddings, overrides and isolates (CVE-2021-42574),
and lone surrogates, which no encoding has. Spaces of every width, joiners and soft hyphens are text."""


def escaped(text: str, keep: str = "") -> str:
    r"""Return text with what a terminal, or the reader's eye, would obey as JSON escapes, such as ``\u202e``.

    A JSON text stays the same value.

    Args:
        text: The text.
        keep: Characters that stay.
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)
