"""`AuthManager`: asks who callers are and what they may do, for code that is not called through a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.errors import AuthenticationError, PermissionDenied
from nexus_core.pipeline.invocation import Invocation

if TYPE_CHECKING:
    from nexus_core.app.nexus import Nexus
    from nexus_core.types.principal import Principal


class AuthManager:
    """What `Nexus.auth_manager` is: an application's own routes let in whom the platform lets in, and nobody else.

    Args:
        nexus: The platform; it is started when the first caller is asked about.
    """

    def __init__(self, nexus: Nexus) -> None:
        self._nexus = nexus

    async def authenticate(self, authorization: str | None, address: str | None = None) -> Principal:
        """Return who has sent a credential.

        Args:
            authorization: The value of an ``Authorization`` header, such as ``Bearer ...``; None if there was none.
            address: Where the caller is. Wrong credentials are counted by it where they are limited.

        Raises:
            AuthenticationError: There is none, or it is not accepted.
            BackendUnavailable: Who would know does not answer.
            RateLimited: There were too many wrong ones from there.
        """
        credentials = {} if authorization is None else {"authorization": authorization}
        caller = Invocation("", None, credentials=credentials, client_address=address)
        await self._nexus.authenticate(caller)
        if caller.principal is None:
            raise AuthenticationError("Nobody is known under this credential.")
        return caller.principal

    async def require(self, principal: Principal | None, *permissions: str) -> None:
        """Make sure that somebody has permissions.

        Raises:
            PermissionDenied: One is missing.
        """
        missing = await self._nexus.missing_permissions(principal, *permissions)
        if missing:
            names = ", ".join(sorted(missing))
            details = {"missing_permissions": sorted(missing)}
            raise PermissionDenied(f"This needs the permission {names}.", details=details)

    async def allows(self, principal: Principal | None, *permissions: str) -> bool:
        """Whether somebody has permissions."""
        try:
            await self.require(principal, *permissions)
        except PermissionDenied:
            return False
        return True
