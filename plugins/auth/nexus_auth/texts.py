"""Reads what claims, providers and key files say, and refuses what is of another type than it must be."""

from __future__ import annotations

from typing import Any

MAX_TEXT = 255
"""Characters of a user's or tenant's id."""

MAX_ITEMS = 10_000
"""Permissions of one principal."""


def texts_of(value: Any) -> frozenset[str]:
    """Return a list of texts, or the words of one text, as a set; None is an empty one.

    Raises:
        TypeError: It is something else.
    """
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return frozenset(value.split())
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"it is a {type(value).__name__}, not a list of texts")
    if len(value) > MAX_ITEMS or not all(isinstance(each, str) for each in value):
        raise TypeError("it is not a list of texts")
    return frozenset(value)


def id_of(value: Any, *, numbers: bool = False) -> str:
    """Return the id of a user or tenant.

    Args:
        value: What should be one.
        numbers: Whether whole numbers are ids too.

    Raises:
        TypeError: It is none.
    """
    if numbers and type(value) is int and value.bit_length() <= 128:
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"it is a {type(value).__name__}, not text")
    if not value.strip() or len(value) > MAX_TEXT or not value.isprintable():
        raise TypeError("it is empty, too long, or holds control characters")
    return value


def permissions_of(values: list[str]) -> list[str]:
    """Return permissions as somebody typed them: several may be in one text, with commas or spaces.

    Raises:
        TypeError: One holds what none has.
    """
    found = [each for value in values for each in value.replace(",", " ").split()]
    for each in found:
        if not each.isprintable() or len(each) > MAX_TEXT:
            raise TypeError("it is too long, or holds control characters")
    return sorted(set(found))
