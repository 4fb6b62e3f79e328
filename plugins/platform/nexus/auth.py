"""Who calls, and what it may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_auth import AuthProvider as AuthProvider
    from nexus_auth import JWTAuthProvider as JWTAuthProvider

    from nexus_core.errors import AuthenticationError as AuthenticationError
    from nexus_core.errors import PermissionDenied as PermissionDenied
    from nexus_core.types.principal import Principal as Principal

__getattr__, __dir__, __all__ = names(
    __name__,
    AuthProvider="nexus_auth",
    JWTAuthProvider="nexus_auth",
    AuthenticationError="nexus_core.errors",
    PermissionDenied="nexus_core.errors",
    Principal="nexus_core.types.principal",
)
