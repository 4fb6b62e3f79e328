"""Reads values from claims, providers, key files and the command line, and rejects those of the wrong type."""

from __future__ import annotations

from typing import Any

MAX_LENGTH = 255
"""Maximum characters of an id or a permission."""

MAX_ITEMS = 10_000
"""Maximum permissions of one principal."""


def string_set(value: Any) -> frozenset[str]:
    """Return a list of strings, or the words of one string, as a set; an empty one for None.

    Raises:
        TypeError: It is something else.
    """
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return frozenset(value.split())
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"must be a list of strings, not {type(value).__name__}")
    if len(value) > MAX_ITEMS or not all(isinstance(each, str) for each in value):
        raise TypeError(f"must be a list of at most {MAX_ITEMS} strings")
    return frozenset(value)


def identifier(value: Any, *, numbers: bool = False) -> str:
    """Return the id of a user or tenant.

    Args:
        value: The id.
        numbers: Whether integers are accepted too.

    Raises:
        TypeError: It is not an id.
    """
    if numbers and type(value) is int and value.bit_length() <= 128:
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"must be a string, not {type(value).__name__}")
    if not value.strip() or len(value) > MAX_LENGTH or not value.isprintable():
        raise TypeError(f"must not be empty, longer than {MAX_LENGTH} characters, or contain control characters")
    return value


def permission_list(values: list[str]) -> list[str]:
    """Return permissions as typed: one string may contain several, separated by commas or spaces.

    Raises:
        TypeError: One is not a permission.
    """
    found = [each for value in values for each in value.replace(",", " ").split()]
    for each in found:
        if not each.isprintable() or len(each) > MAX_LENGTH:
            raise TypeError(f"must not be longer than {MAX_LENGTH} characters, or contain control characters")
    return sorted(set(found))
