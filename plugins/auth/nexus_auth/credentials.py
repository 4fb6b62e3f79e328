"""Reads the credential that a caller sent, before it is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nexus_auth.rejection import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.pipeline.invocation import Caller

    CookieReader = Callable[[Mapping[bytes, bytes]], str | None]
    """Returns the id of a browser's session in a request's headers, or None."""

MAX_BYTES = 16 * 1024
"""Maximum length of a credential."""

_BROWSER_CHANNEL = "api"
"""The only channel where a cookie is a credential: browsers send it to every port of a host."""

COOKIE = "cookie"
"""The scheme of a credential from a cookie. No caller may send this scheme: CSRF protection looks for the cookie."""


def cookie_credential(session_id: str) -> str:
    """Return the credential for the id in a browser's cookie."""
    return f"{COOKIE} {session_id}"


class Credential(NamedTuple):
    """A credential in its parts.

    Attributes:
        authorization: The whole value, as in the header ``Authorization``.
        scheme: The scheme in lower case: ``bearer``.
        token: The rest after the scheme.
    """

    authorization: str
    scheme: str
    token: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as the argument of `AuthProvider.authenticate`."""
        return self._asdict()


def authorization_of(caller: Caller, read_cookie: CookieReader | None = None) -> str | None:
    """Return the credential of a caller in the form of the header ``Authorization``; None without a credential.

    Args:
        caller: The caller.
        read_cookie: Reads the cookie of the browser login, where that is on.
    """
    if caller.credentials is not None:
        sent = caller.credentials.get("authorization")
        if read_cookie is not None and sent is not None and sent.lstrip()[: len(COOKIE)].lower() == COOKIE:
            return COOKIE  # a scheme without a token is always rejected
        return sent
    headers = caller.headers
    if headers is None:
        return None
    if (key := headers.get(b"x-api-key")) is not None:
        return f"ApiKey {key.decode('latin-1')}"
    if read_cookie is not None and caller.channel == _BROWSER_CHANNEL:
        session_id = read_cookie(headers)
        return None if session_id is None else cookie_credential(session_id)
    return None


def read(authorization: str) -> Credential:
    """Return a credential in its parts.

    Raises:
        Rejected: It is malformed.
    """
    if len(authorization) > MAX_BYTES:
        raise Rejected(f"the credential has {len(authorization)} characters, more than {MAX_BYTES}")
    scheme, _, token = authorization.strip(" ").partition(" ")
    token = token.strip(" ")
    if not scheme or not token:
        raise Rejected("the credential is not a scheme and a token")
    if not (authorization.isascii() and authorization.isprintable()):
        raise Rejected("the credential contains characters that are not allowed")
    return Credential(authorization, scheme.lower(), token)
