"""Who calls, and what it may do. Names are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_auth.jwt_provider import JWTAuthProvider as JWTAuthProvider
    from nexus_auth.provider import AuthProvider as AuthProvider
    from nexus_core.errors import AuthenticationError as AuthenticationError
    from nexus_core.types.principal import Principal as Principal

_HOME_OF = {
    "AuthProvider": "nexus_auth.provider",
    "AuthenticationError": "nexus_core.errors",
    "JWTAuthProvider": "nexus_auth.jwt_provider",
    "Principal": "nexus_core.types.principal",
}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return list(__all__)
