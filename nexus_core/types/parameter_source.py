"""`ParameterSource`: where a parameter comes from."""

from __future__ import annotations

from enum import StrEnum


class ParameterSource(StrEnum):
    """Where a parameter comes from."""

    BODY = "body"
    HEADER = "header"
    QUERY = "query"
    OPTION = "option"
    """An option of the command line."""
    TOOL = "tool"
    """An argument of an MCP tool call."""
    CODE = "code"
    """A call from Python."""
    REQUEST = "request"
    """The request itself, not the caller's parameters: ``tool_name``, ``tool_id``."""
    RESOLVER = "resolver"
    """An earlier resolver."""
