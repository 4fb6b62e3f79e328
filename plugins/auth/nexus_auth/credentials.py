"""Reads the credential that a caller sent, before anything is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nexus_auth.refusal import Refused

if TYPE_CHECKING:
    from nexus_auth.browser_sessions import BrowserSessions
    from nexus_core.pipeline.invocation import Invocation

MAX_BYTES = 16 * 1024
"""The largest credential that is looked at."""


BROWSERS = "api"
"""The channel where a cookie counts. Browsers send it to every port of a host."""


COOKIE = "cookie"
"""The scheme under which the id in a browser's cookie is read as a credential. No caller may write it itself: what
protects browsers looks for the cookie."""

_NO_COOKIE = COOKIE
"""What stands for a credential that pretends to come from a cookie: a scheme alone, which is always refused."""


def cookie_credential(session_id: str) -> str:
    """Return the credential of who has sent a cookie."""
    return f"{COOKIE} {session_id}"


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


def authorization_of(invocation: Invocation, sessions: BrowserSessions | None = None) -> str | None:
    """Return what a caller sent to say who it is, in the form of the header ``Authorization``; None for nothing.

    Args:
        invocation: What it sent.
        sessions: Knows the cookie of browsers, where they may log in.
    """
    if invocation.credentials is not None:
        sent = invocation.credentials.get("authorization")
        if sessions is not None and sent is not None and sent.lstrip()[: len(COOKIE)].lower() == COOKIE:
            return _NO_COOKIE
        return sent
    headers = invocation.headers
    if headers is None:
        return None
    if (key := headers.get(b"x-api-key")) is not None:
        return f"ApiKey {key.decode('latin-1')}"
    if sessions is not None and invocation.channel == BROWSERS and (session_id := sessions.id_of(headers)) is not None:
        return cookie_credential(session_id)
    return None


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
