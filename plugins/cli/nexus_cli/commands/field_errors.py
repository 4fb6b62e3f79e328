"""Names flags in validation errors: where other channels say ``/a``, the command line says ``--a``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_cli.commands.workflow_help import RESERVED, option_of
from nexus_core.schema.report import summary

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


def _with_flag(entry: dict[str, Any], given: Collection[str] | None) -> dict[str, Any]:
    _, *parts = str(entry.get("pointer", "")).split("/")
    name, *path = [part.replace("~1", "/").replace("~0", "~") for part in parts] or [""]
    flag = option_of(name)
    if not name or flag in RESERVED or (given is not None and name not in given):
        return entry
    flag += "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in path)
    near = entry.get("nearest")
    message = str(entry.get("message", ""))
    if near is not None and not path and message.startswith("unknown name"):
        message = message.replace(f'"{near}"', option_of(near))
    return {**entry, "pointer": flag, "message": message}
