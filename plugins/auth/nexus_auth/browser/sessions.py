"""`BrowserSessions`: the sessions of the browser login. A cookie has a random id; the token is in the store.

Pages can't read the cookie, and the token never reaches the browser. Other sites can make a browser send the cookie:
see `nexus_auth.browser.csrf`.
"""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from nexus_auth.credentials import COOKIE, cookie_credential
from nexus_auth.methods.method import Method
from nexus_auth.rejection import Rejected
from nexus_core.state.limits import BROWSER_LOGINS, user_payer
from nexus_core.state.stores import scoping

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nexus_auth.credential_cache import VerifiedCredential
    from nexus_auth.credentials import Credential
    from nexus_core.state.stores import Store

CACHE_SECONDS = 0.5
"""Seconds for which a session is cached: a logout takes effect after that, in every process."""

_ID_BYTES = 32
_LONGEST_ID = 64


class _BrowserSession(msgspec.Struct):
    token: str
    expires_at: float
    identity: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_BrowserSession).decode


class BrowserSessions:
    """The browser sessions of one platform, in its store, shared by all processes with the same store.

    Args:
        store: Returns the store.
        seconds: Maximum lifetime of a session; it ends with its token.
        ended: Called with the credential of a session that ended in this process.
        https: Whether browsers use HTTPS only.

    Attributes:
        cookie: The name of the cookie. With ``__Host-``, other hosts can't set it (RFC 6265bis, 4.1.3.2).
        login_cookie: The name of the cookie for a login in progress.
    """

    def __init__(
        self, store: Callable[[], Store], seconds: float, ended: Callable[[str], object] = str, *, https: bool
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._ended = ended
        self.cookie = "__Host-nexus" if https else "nexus"
        self.login_cookie = f"{self.cookie}-login"
        self._name = self.cookie.encode()

    def id_of(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return the id in a request's cookie, or None."""
        return None if (cookies := headers.get(b"cookie")) is None else self.id_in(cookies)

    def id_in(self, cookies: bytes) -> str | None:
        """Return the id in a Cookie header, or None. Several cookies of this name are ignored."""
        pairs = (each.partition(b"=") for each in cookies.split(b";"))
        found = [value for name, _, value in pairs if name.strip() == self._name]
        if len(found) != 1 or not 0 < len(found[0]) <= _LONGEST_ID:
            return None
        return found[0].strip().decode("latin-1")

    async def begin(self, token: str, expires_at: float | None, identity: str) -> tuple[str, float]:
        """Store a token. Return the id of the session, and its lifetime in seconds.

        Args:
            token: The token.
            expires_at: When it expires, in seconds since the epoch.
            identity: The `Principal.identity` of the user.

        Raises:
            StateLimitReached: The user has too many logins.
        """
        session_id, now = secrets.token_urlsafe(_ID_BYTES), time.time()
        end = min(now + self._seconds, expires_at or now + self._seconds)
        store = scoping(self._store())(BROWSER_LOGINS, user_payer(identity))
        await store.set(_key(session_id), _encode(_BrowserSession(token, end, identity)), max(1.0, end - now))
        return session_id, end - now

    async def token(self, session_id: str) -> tuple[str, float] | None:
        """Return the token of an open session, and when the session ends; or None."""
        session = await self._session(session_id)
        goes_on = session is not None and time.time() < session.expires_at
        return (session.token, session.expires_at) if session is not None and goes_on else None

    async def _session(self, session_id: str) -> _BrowserSession | None:
        kept = await self._store().get(_key(session_id))
        try:
            return None if kept is None else _decode(kept)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # not written by this plugin

    async def end(self, session_id: str) -> None:
        """End a session."""
        if (kept := await self._session(session_id)) is not None:
            store = scoping(self._store())(BROWSER_LOGINS, user_payer(kept.identity))
            await store.delete(_key(session_id))
        self._ended(cookie_credential(session_id))

    async def use_state(self, state: str, seconds: float, identity: str) -> None:
        """Record that a login with this state has succeeded, so that it can't be replayed.

        Args:
            state: The state.
            seconds: Seconds for which it could be replayed.
            identity: The `Principal.identity` of the user.

        Raises:
            Rejected: It was used before.
            StateLimitReached: The user has too many logins.
        """
        store = scoping(self._store())(BROWSER_LOGINS, user_payer(identity))
        if await store.add(f"login-state:{sha256(state.encode()).hexdigest()}", b"1", seconds) is not None:
            raise Rejected("this login was used before")


def _key(session_id: str) -> str:
    """Return the key of a session in the store, which does not reveal the id."""
    return f"login:{sha256(session_id.encode()).hexdigest()}"


def csrf_token(session_id: str) -> str:
    """Return the CSRF token of a session, which only pages of this platform can know."""
    return urlsafe_b64encode(sha256(b"nexus csrf " + session_id.encode()).digest()).rstrip(b"=").decode()


class BrowserMethod(Method):
    """The `Method` for the cookie of the browser login.

    Args:
        sessions: The sessions.
        verify: Verifies the stored bearer token; raises as `Method.verify` does.
    """

    name = "browser"

    def __init__(
        self, sessions: BrowserSessions, verify: Callable[[str], Awaitable[tuple[str, VerifiedCredential]]]
    ) -> None:
        self._sessions = sessions
        self._verify = verify

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`."""
        return credential.scheme == COOKIE

    async def verify(self, credential: Credential) -> VerifiedCredential:
        """See `Method.verify`."""
        found = await self._sessions.token(credential.token)
        if found is None:
            raise Rejected("unknown or expired session")
        token, end = found
        _, verified = await self._verify(f"Bearer {token}")
        end = min(verified.expires_at, end)
        return verified._replace(seconds=min(verified.seconds, CACHE_SECONDS), expires_at=end)
