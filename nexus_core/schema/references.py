"""Moves a schema's definitions, so that several schemas can live in one document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOCAL = "#/$defs/"


def hoist_definitions(schema: Mapping[str, Any], target: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a schema from its ``$defs`` and let its references point to where they will be.

    Args:
        schema: A schema whose references are local (``#/$defs/Name``).
        target: What stands before a definition's name in its new place, such as ``#/components/schemas/order.``.

    Returns:
        The schema without ``$defs``, and the definitions by their old names. Neither is shared with the original.
    """
    moved = _move(schema, target)
    return moved, moved.pop("$defs", {})


def _move(part: Any, target: str) -> Any:
    if isinstance(part, dict):
        return {
            key: _moved_reference(item, target) if key == "$ref" else _move(item, target) for key, item in part.items()
        }
    if isinstance(part, list):
        return [_move(item, target) for item in part]
    return part


def _moved_reference(reference: Any, target: str) -> Any:
    if isinstance(reference, str) and reference.startswith(_LOCAL):
        return target + reference.removeprefix(_LOCAL)
    return _move(reference, target)
