"""Authentication and authorization. The names of `nexus_auth.exports` are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_auth.exports import *  # noqa: F403


def __getattr__(name: str) -> Any:
    exports = import_module("nexus_auth.exports")
    if name in ("__all__", *exports.__all__):
        return getattr(exports, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__getattr__("__all__"))
