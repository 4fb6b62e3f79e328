"""Reports what only the conversion to a type can find: a user's own validator, a date that does not exist."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError as PydanticError

from nexus_core.concurrency.threads import ENDS_PROCESS
from nexus_core.schema.excerpts import REPORTED, excerpts
from nexus_core.schema.report import pointer
from nexus_core.schema.validation import MAX_ERRORS
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_STRUCTURAL = ("missing", "extra_forbidden", "literal_error", "enum", "is_instance_of")
"""Kinds of errors that tell, as those ending in ``_type`` do, that a value was meant for another alternative."""


def converted(name: str, value: Any, convert: Callable[[Any], Any], errors: list[dict[str, Any]]) -> Any:
    """Return what a value that fits its schema is as the annotated type.

    Args:
        name: The parameter.
        value: What was given.
        convert: The conversion.
        errors: Receives the errors of a value that does not convert; then None is returned.
    """
    try:
        return convert(value)
    except (PydanticError, msgspec.ValidationError, OverflowError) as exc:
        errors += conversion_errors(name, value, exc, convert)
    except (*ENDS_PROCESS, asyncio.CancelledError) as exc:
        raise RuntimeError(f"the check of {name} raised {exc!r}") from exc


def conversion_errors(
    name: str, value: Any, exc: Exception, convert: Callable[[Any], Any]
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the errors of a parameter whose JSON fits its schema.

    Args:
        name: The parameter.
        value: What was given.
        exc: What pydantic or msgspec raised.
        convert: The conversion, for parts of a large value.
    """
    if isinstance(exc, PydanticError) and exc.error_count() > REPORTED:
        return _of_part(name, value, exc, convert)
    return _entries(name, value, exc)


def _of_part(name: str, value: Any, exc: PydanticError, convert: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Return what is wrong in the first part of a large value that does not convert: pydantic tells all or none."""
    for part in excerpts(value, REPORTED):
        try:
            convert(part.value)
        except PydanticError as error:
            found = _entries(name, part.value, error)
            return [entry | {"pointer": part.original(entry["pointer"], 1)} for entry in found]
    return [{"pointer": pointer([name]), "message": f"{exc.error_count()} members are not valid"}]


def _entries(name: str, value: Any, exc: Exception) -> list[dict[str, Any]]:
    if not isinstance(exc, PydanticError):
        return [{"pointer": pointer([name]), "message": printable(str(exc), 300)}]
    branches: dict[Any, _Branch] = {}
    for each in exc.errors(include_input=False, include_url=False)[:MAX_ERRORS]:
        place, label = _place(value, each["loc"])
        branch = branches.setdefault(label, _Branch())
        branch.misfits += _is_structural(each)
        branch.entries.append({"pointer": pointer([name, *place]), "message": printable(each["msg"], 300)})
    return [entry for label in _meant(branches) for entry in branches[label].entries]


@dataclass(slots=True)
class _Branch:
    """What is wrong with a value as one alternative of a union, or apart from unions."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    misfits: int = 0


def _place(value: Any, loc: Sequence[Any]) -> tuple[list[Any], tuple[Any, Any] | None]:
    """Return the path of pydantic's error in the value, and the first union on it with the alternative, if any."""
    path: list[Any] = []
    label = None
    for step in loc:
        if isinstance(value, list) and type(step) is int and step < len(value):
            value = value[step]
        elif isinstance(value, dict) and str(step) in value:  # pydantic has keys as their type is
            step = str(step)
            value = value[step]
        elif isinstance(value, dict) and step == loc[-1] and label is None and isinstance(step, str):
            pass  # a member that is missing
        else:
            label = label or (tuple(path), step)
            continue
        path.append(step)
    return path, label


def _is_structural(error: Mapping[str, Any]) -> bool:
    return error["type"] in _STRUCTURAL or error["type"].endswith("_type")


def _meant(branches: Mapping[Any, _Branch]) -> list[Any]:
    """Return the labels of what to report: of each union, the alternative that the value fits best."""
    best: dict[Any, Any] = {}
    for label, branch in branches.items():
        union = None if label is None else label[0]
        known = branches[best[union]] if union in best else None
        if known is None or (branch.misfits, len(branch.entries)) < (known.misfits, len(known.entries)):
            best[union] = label
    return [label for label in branches if label in best.values()]
