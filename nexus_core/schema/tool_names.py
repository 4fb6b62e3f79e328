"""The name of a workflow where callers are language models: their providers allow less in it than `NAME_RULE` does."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 64
"""Characters of a tool's name that every large provider allows (``^[a-zA-Z0-9_-]{1,64}$``)."""

_ALLOWED = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MARKED = re.compile(r".*_x[0-9a-f]{10}")
_OTHERS = re.compile(r"[^A-Za-z0-9_-]+")


def tool_name(name: str) -> str:
    """Return the tool name of a workflow: its own name where that is allowed, else one made of it and a hash of it.

    It depends on the name alone, so it stays the same at every start and in every process. No two names share one: an
    allowed name that looks like one with a hash gets a hash as well. `Registry.name_of_tool` leads back.

    Args:
        name: The workflow's name.

    Example:
        ```python
        tool_name("send_invoice")  # send_invoice
        tool_name("reports.monthly")  # reports_monthly_xebe30a3c20
        ```
    """
    if _ALLOWED.fullmatch(name) and not _MARKED.fullmatch(name):
        return name
    mark = "_x" + hashlib.sha256(name.encode()).hexdigest()[:10]
    return _OTHERS.sub("_", name)[: MAX_LENGTH - len(mark)] + mark
