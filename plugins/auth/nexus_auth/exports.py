"""The public names of `nexus_auth`."""

from nexus_auth.jwt_provider import JWTAuthProvider
from nexus_auth.provider import AuthProvider
from nexus_core.errors import AuthenticationError
from nexus_core.types.principal import Principal

__all__ = ["AuthProvider", "AuthenticationError", "JWTAuthProvider", "Principal"]
