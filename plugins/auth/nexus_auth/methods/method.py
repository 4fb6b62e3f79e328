"""`Method`: one way of authenticating callers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexus_auth.credential_cache import VerifiedCredential
    from nexus_auth.credentials import Credential


class Method(ABC):
    """Verifies credentials of one kind.

    Attributes:
        name: Its name in logs and in ``nexus why``.
    """

    name: str

    @abstractmethod
    def takes(self, credential: Credential) -> bool:
        """Whether a credential has the form that this method verifies."""

    @abstractmethod
    async def verify(self, credential: Credential) -> VerifiedCredential:
        """Return whose credential it is.

        Raises:
            Rejected: The credential is not valid.
            Unavailable: It can't be verified now.
            NexusError: The credential is not valid, and the caller is shown this error.
        """

    async def open(self) -> None:  # noqa: B027
        """Get ready, on the event loop of the platform."""

    async def close(self) -> None:  # noqa: B027
        """Release all resources."""
