"""Why a credential is rejected. The reason goes to the debug log; callers get one general message."""

from __future__ import annotations

from nexus_core.errors import BackendUnavailable

NOT_VALID = "The credential is not valid."


class Rejected(Exception):
    """A credential, or a login, is not valid. The text never contains the credential."""


class Unavailable(Exception):
    """The identity provider, or another source that verification needs, is unavailable.

    Args:
        reason: The reason.
        answered: Whether there was a response, which could not be used.
    """

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        super().__init__(reason)
        self.answered = answered


def provider_unavailable() -> BackendUnavailable:
    """Return the error that callers get for `Unavailable`."""
    return BackendUnavailable("The identity provider is unavailable.", retry_after=1.0)
