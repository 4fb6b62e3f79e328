"""Reads the credential that a caller sent, before anything is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nexus_auth.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 16 * 1024
"""The largest credential that is looked at."""


class Credential(NamedTuple):
    """What a caller sent.

    Attributes:
        authorization: All of it, as in the header ``Authorization``.
        scheme: Its scheme in small letters: ``bearer``.
        token: What follows.
    """

    authorization: str
    scheme: str
    token: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as a provider's ``authenticate`` takes it."""
        return self._asdict()


def authorization_of(credentials: Mapping[str, str] | None, headers: Mapping[bytes, bytes] | None) -> str | None:
    """Return what a caller sent to say who it is, in the form of the header ``Authorization``; None for nothing."""
    if credentials is not None:
        return credentials.get("authorization")
    key = headers.get(b"x-api-key") if headers is not None else None
    return None if key is None else f"ApiKey {key.decode('latin-1')}"


def read(authorization: str) -> Credential:
    """Return a credential in its parts.

    Raises:
        Refused: It has not the form of one.
    """
    if len(authorization) > MAX_BYTES:
        raise Refused(f"it has {len(authorization)} characters")
    scheme, _, token = authorization.strip(" ").partition(" ")
    token = token.strip(" ")
    if not scheme or not token:
        raise Refused("it is not a scheme and a token")
    if not (authorization.isascii() and authorization.isprintable()):
        raise Refused("it holds characters that no credential has")
    return Credential(authorization, scheme.lower(), token)
