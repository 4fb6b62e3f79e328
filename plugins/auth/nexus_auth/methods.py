"""`Method`: one way for callers to prove who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nexus_auth.credentials import Credential
    from nexus_auth.known import Verified


class Method(Protocol):
    """Checks credentials of one kind."""

    name: str

    def takes(self, credential: Credential) -> bool:
        """Whether a credential has the form of those that are checked here."""

    async def verify(self, credential: Credential) -> Verified:
        """Return who sent a credential.

        Raises:
            Refused: It is not accepted.
            Unavailable: Who would know does not answer.
            NexusError: It is not accepted, and the caller may know why.
        """

    async def open(self) -> None:
        """Get ready, on the event loop of the platform."""

    async def close(self) -> None:
        """Let go of everything."""
