"""`AuthManager`: authentication and authorization for code that is not called through a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_auth.rejection import NOT_VALID
from nexus_core.errors import AuthenticationError, PermissionDenied
from nexus_core.pipeline.invocation import Caller

if TYPE_CHECKING:
    from nexus_core import Platform
    from nexus_core.types.principal import Principal


class AuthManager:
    """`Nexus.auth_manager`: an application's own routes use the platform's authentication and authorization.

    Example:
        ``principal = await nexus.auth_manager.authenticate(headers.get("authorization"))``

    Args:
        platform: The platform. The first call starts it.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def authenticate(self, authorization: str | None, address: str | None = None) -> Principal:
        """Return the principal of a credential.

        Args:
            authorization: The value of the header ``Authorization``, such as ``Bearer ...``; None without the header.
            address: The caller's IP address, by which failed attempts are rate-limited.

        Raises:
            AuthenticationError: There is no credential, or it is not valid.
            BackendUnavailable: The identity provider is unavailable.
            RateLimited: Too many failed attempts from this address.
        """
        credentials = {} if authorization is None else {"authorization": authorization}
        caller = Caller(credentials=credentials, client_address=address)
        await self._platform.authenticate(caller)
        if caller.principal is None:
            raise AuthenticationError(NOT_VALID)
        return caller.principal

    async def require(self, principal: Principal | None, *permissions: str) -> None:
        """Require permissions of a principal.

        Raises:
            PermissionDenied: A permission is missing.
        """
        missing = await self._platform.missing_permissions(principal, *permissions)
        if missing:
            names = ", ".join(sorted(missing))
            details = {"missing_permissions": sorted(missing)}
            raise PermissionDenied(f"This needs the permission {names}.", details=details)

    async def allows(self, principal: Principal | None, *permissions: str) -> bool:
        """Whether a principal has all these permissions."""
        try:
            await self.require(principal, *permissions)
        except PermissionDenied:
            return False
        return True
