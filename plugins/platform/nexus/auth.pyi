# Written by `make generate`.

from nexus_auth import AuthProvider as AuthProvider
from nexus_auth import JWTAuthProvider as JWTAuthProvider
from nexus_core.errors import AuthenticationError as AuthenticationError
from nexus_core.errors import PermissionDenied as PermissionDenied
from nexus_core.types.principal import Principal as Principal

__all__ = [
    "AuthProvider",
    "AuthenticationError",
    "JWTAuthProvider",
    "PermissionDenied",
    "Principal",
]
