"""Authentication and authorization."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    AuthProvider="nexus_auth",
    JWTAuthProvider="nexus_auth",
    AuthenticationError="nexus_core.errors",
    PermissionDenied="nexus_core.errors",
    Principal="nexus_core.types.principal",
)
