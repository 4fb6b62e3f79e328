"""What tells a workflow from another one of its name, in this process or in one that was started with other code."""

from __future__ import annotations

import hashlib
from types import CodeType
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext

if TYPE_CHECKING:
    from nexus_core import Workflow

MAX_LAYERS = 20
"""How many decorators are looked through."""


def definition(workflow: Workflow) -> bytes:
    """Return a digest of a workflow's name, version, schemas and, where it is a function, its own code.

    It can't see everything: not what the function calls, nor what it closes over. That is what versions are for.
    """
    version = workflow.metadata.get("version")
    known = [workflow.name, str(version), workflow.input_schema, workflow.output_schema]
    code = "".join(_layers(getattr(workflow, "function", None)))
    return hashlib.sha256(jsontext.canonical([*known, code])).digest()


def _layers(function: Any) -> list[str]:
    """Return the code of a function and, where it is decorated, of what is inside."""
    found: list[str] = []
    while function is not None and len(found) < MAX_LAYERS:
        code = _code(function)
        found.append("" if code is None else _text(code))
        function = getattr(function, "__wrapped__", None)
    return found


def _code(function: Any) -> CodeType | None:
    function = getattr(function, "func", function)  # functools.partial
    if not hasattr(function, "__code__"):
        function = getattr(type(function), "__call__", None)  # noqa: B004  (an object that is called like one)
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _text(constant: Any) -> str:
    """Return the same text for equal constants in every process: neither line numbers nor the order of a set."""
    if isinstance(constant, CodeType):
        names = (constant.co_names, constant.co_varnames, constant.co_freevars, constant.co_argcount)
        return f"{constant.co_code.hex()} {names} {[_text(each) for each in constant.co_consts]}"
    if isinstance(constant, frozenset):
        return f"{{{sorted(_text(each) for each in constant)}}}"
    if isinstance(constant, tuple):
        return f"({[_text(each) for each in constant]})"
    return repr(constant)
