"""Digests of a workflow's code and of its schema: whether two processes, or two deployments, have the same."""

from __future__ import annotations

import hashlib
import inspect
from types import CodeType
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.workflows.callables import implementation_of

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = 12
"""Hex digits of a digest."""


def digest_of_function(function: Callable[..., Any]) -> str | None:
    """Return a digest of a function's code and of the functions defined in it; None where it has none in Python.

    It is the same in every process with the same version of Python. Other functions that it calls are not part of it,
    and neither are its docstring, its file and its line numbers.
    """
    code = getattr(implementation_of(function), "__code__", None)
    if not isinstance(code, CodeType):
        return None
    digest = hashlib.sha256()
    codes, docs = [code], {inspect.getdoc(function)}
    while codes:
        each = codes.pop()
        constants = [_text(value, codes) for value in each.co_consts if not _is_doc(value, docs)]
        names = (each.co_names, each.co_varnames, each.co_freevars, each.co_cellvars)
        digest.update(repr((each.co_code.hex(), constants, names, each.co_flags, each.co_argcount)).encode())
    return digest.hexdigest()[:LENGTH]


def _is_doc(value: Any, docs: set[str | None]) -> bool:
    return isinstance(value, str) and inspect.cleandoc(value) in docs


def _text(value: Any, codes: list[CodeType]) -> str:
    """Return a constant as text that is the same in every process, and note the code in it."""
    if isinstance(value, CodeType):
        codes.append(value)
        return f"code {value.co_name}"
    if isinstance(value, tuple):
        return f"({', '.join(_text(each, codes) for each in value)})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(_text(each, codes) for each in value))}}}"
    return repr(value)


def digest_of_json(value: Any) -> str:
    """Return a digest of a JSON value, such as a schema: the order of an object's members does not count.

    Without a JSON form, as an adapter's schema may be, it is empty.
    """
    try:
        text = jsontext.canonical(value)
    except (TypeError, ValueError):
        return ""
    return hashlib.sha256(text).hexdigest()[:LENGTH]
