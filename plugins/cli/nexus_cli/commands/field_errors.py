"""Names flags in validation errors: where other channels say ``/a``, the command line says ``--a``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_cli.commands.workflow_help import RESERVED, option_of
from nexus_core.schema.report import summary
from nexus_core.text import escaped

if TYPE_CHECKING:
    from collections.abc import Collection

    from nexus_core.errors import ValidationError


def name_flags(error: ValidationError, given: Collection[str] | None) -> None:
    """Replace JSON pointers by flags in an error, for people.

    Args:
        error: The error, which is changed.
        given: The parameters that were given as flags; None for all. Those of ``--data`` keep their pointers.
    """
    shown = [_with_flag(entry, given) for entry in error.errors]
    error.message = error.message.replace(summary(error.errors[:3]), summary(shown[:3]), 1)
    error.errors = shown


def name_answer(error: ValidationError, *, by_fields: bool) -> None:
    """Replace JSON pointers by ``--answer`` or ``--field NAME`` in an error about an answer to a question.

    Args:
        error: The error, which is changed.
        by_fields: Whether the answer was given with ``--field``.
    """
    shown = [_with_answer(entry, by_fields) for entry in error.errors]
    error.message = error.message.replace(summary(error.errors[:3]), summary(shown[:3]), 1)
    error.errors = shown


def _with_answer(entry: dict[str, Any], by_fields: bool) -> dict[str, Any]:
    path = path_in_answer(entry)
    if path is None:
        return entry
    if by_fields and path:
        return {**entry, "pointer": f"--field {escaped(path[0])}{_tail(path[1:])}"}
    return {**entry, "pointer": f"--answer{_tail(path)}"}


def path_in_answer(entry: dict[str, Any]) -> list[str] | None:
    """Return where in an answer an entry of a `ValidationError` points to; None if it is about something else."""
    parts = path_of(entry)
    return parts[1:] if parts[:1] == ["answer"] else None


def path_of(entry: dict[str, Any]) -> list[str]:
    """Return the parts of an entry's JSON pointer."""
    _, *parts = str(entry.get("pointer", "")).split("/")
    return [part.replace("~1", "/").replace("~0", "~") for part in parts]


def _tail(path: list[str]) -> str:
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in path)


def _with_flag(entry: dict[str, Any], given: Collection[str] | None) -> dict[str, Any]:
    name, *path = path_of(entry) or [""]
    flag = option_of(name)
    if not name or flag in RESERVED or (given is not None and name not in given):
        return entry
    flag += _tail(path)
    near = entry.get("nearest")
    message = str(entry.get("message", ""))
    if near is not None and not path and message.startswith("unknown name"):
        message = message.replace(f'"{near}"', option_of(near))
    return {**entry, "pointer": flag, "message": message}
