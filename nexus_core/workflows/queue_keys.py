"""How the durable runs of a workflow are queued: what ``queue_...`` in its metadata says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError
from nexus_core.runs.work import PRIORITIES, PRIORITY, Rate, WorkLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

CALLER = "caller"
"""What ``queue_key`` is where limits of a key are those of each caller."""

_RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,5})?(s|min|h|d)")
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def rate_of(text: str) -> Rate:
    """Return the rate that a text such as ``100/min`` or ``5/10s`` says.

    Raises:
        ValueError: The text is not a rate.
    """
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("must be a number of runs and a time, such as 100/min or 5/10s; units are s, min, h and d")
    return Rate(int(found[1]), int(found[2] or 1) * _UNITS[found[3]])


def check_queue(name: str, metadata: Mapping[str, Any]) -> None:
    """Refuse what can't be used.

    Args:
        name: The workflow's name, for messages.
        metadata: Its metadata.

    Raises:
        ConfigurationError: A value does not fit its key.
    """
    for key in ("queue_concurrency", "queue_key_concurrency"):
        limit = metadata.get(key)
        if limit is not None and not (type(limit) is int and limit > 0):
            raise ConfigurationError(f"{name}: metadata[{key!r}] must be a whole number above 0.")
    for key in ("queue_rate", "queue_key_rate"):
        if metadata.get(key) is not None:
            try:
                rate_of(metadata[key])
            except ValueError as exc:
                raise ConfigurationError(f"{name}: metadata[{key!r}] {exc}.") from None
    of_key = metadata.get("queue_key")
    if of_key is not None and not (isinstance(of_key, str) and of_key):
        raise ConfigurationError(f"{name}: metadata['queue_key'] must be 'caller' or the name of a parameter.")
    for key in ("queue_key_concurrency", "queue_key_rate"):
        if metadata.get(key) is not None and of_key is None:
            raise ConfigurationError(f"{name}: metadata[{key!r}] needs metadata['queue_key'].")
    priority = metadata.get("queue_priority", PRIORITY)
    if type(priority) is not int or priority not in PRIORITIES:
        raise ConfigurationError(f"{name}: metadata['queue_priority'] must be a number from 1, the first, to 5.")


def limits_of(metadata: Mapping[str, Any]) -> WorkLimits:
    """Return the limits that checked metadata says."""
    rates = (metadata.get("queue_rate"), metadata.get("queue_key_rate"))
    of_all, of_key = (None if each is None else rate_of(each) for each in rates)
    return WorkLimits(metadata.get("queue_concurrency"), of_all, metadata.get("queue_key_concurrency"), of_key)
