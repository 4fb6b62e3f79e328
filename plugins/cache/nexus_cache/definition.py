"""A digest that distinguishes a workflow from others of its name, in this process and in those with other code."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import partial
from types import CodeType, EllipsisType, FunctionType, NoneType
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core import Workflow

MAX_LAYERS = 20
"""Maximum number of decorators that are unwrapped."""

CONSTANTS = frozenset({bool, int, float, complex, str, bytes, NoneType, EllipsisType})
"""Immutable types with the same text in every process."""


def definition(workflow: Workflow) -> bytes:
    """Return a digest of a workflow's name, version, schemas and, where it is a function, its own code.

    It does not include the functions it calls, nor mutable objects in its closure: a new version covers those.
    """
    version = workflow.metadata.get("version")
    known = [workflow.name, str(version), workflow.input_schema, workflow.output_schema]
    return hashlib.sha256(jsontext.canonical([*known, _layers(getattr(workflow, "function", None))])).digest()


def _layers(function: Any) -> list[str]:
    """Return the text of a function and of the functions it decorates."""
    found: list[str] = []
    while function is not None and len(found) < MAX_LAYERS:
        if isinstance(function, partial):
            found.append(_text((function.args, tuple(sorted(function.keywords.items())))))
            function = function.func
            continue
        called = function if hasattr(function, "__code__") else getattr(type(function), "__call__", None)  # noqa: B004
        found.append(_text(getattr(called, "__code__", None)))
        found.append(_text(tuple(_values(called))))
        function = getattr(function, "__wrapped__", None)
    return found


def _values(function: Any) -> Iterator[Any]:
    """Yield the values of a function's closure, and its defaults."""
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # it is empty
            yield cell.cell_contents
    yield getattr(function, "__defaults__", None)
    yield tuple(sorted((getattr(function, "__kwdefaults__", None) or {}).items()))


def _text(value: Any) -> str:
    """Return the same text for equal constants in every process: without line numbers, addresses and set order."""
    if isinstance(value, FunctionType):
        value = value.__code__
    if isinstance(value, CodeType):
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_argcount)
        return f"{value.co_code.hex()} {names} {[_text(each) for each in value.co_consts]}"
    if isinstance(value, frozenset):
        return f"{{{sorted(_text(each) for each in value)}}}"
    if isinstance(value, tuple):
        return f"({[_text(each) for each in value]})"
    return repr(value) if type(value) in CONSTANTS else type(value).__name__
