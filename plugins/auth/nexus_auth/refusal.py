"""Why a credential is not accepted. The reason is for the debug log; callers get one general message."""

from __future__ import annotations

from nexus_core.errors import BackendUnavailable

NOT_ACCEPTED = "The credential is not accepted."


class Refused(Exception):
    """A credential is not accepted. Its text never holds the credential."""


class Unavailable(Exception):
    """Whether a credential is good can't be found out now: who would know does not answer.

    Args:
        why: What is wrong.
        answered: Whether there was an answer, of no use.
    """

    def __init__(self, why: str, *, answered: bool = False) -> None:
        super().__init__(why)
        self.answered = answered


def nobody_answers() -> BackendUnavailable:
    """Return what callers are told when something is `Unavailable`."""
    return BackendUnavailable("The identity provider is unavailable.", retry_after=1.0)
