"""The task of a durable run: what the process that works on it needs, and the run store does not keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core import jsontext

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Task(msgspec.Struct):
    """In the run store, secrets are left out of the parameters."""

    params: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Task).decode


def task_of(params: Mapping[str, Any]) -> bytes:
    """Return the task of a call with these validated parameters, for `Work.task`."""
    return _encode(_Task(msgspec.Raw(jsontext.encode(params))))


def params_of(task: bytes) -> dict[str, Any]:
    """Return the parameters of a task."""
    params: dict[str, Any] = jsontext.parse_trusted(bytes(_decode(task).params))
    return params
