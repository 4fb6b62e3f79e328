"""`BrowserSessions`: what a browser has instead of a token: a cookie with a random id, under which the token is kept.

Pages can't read the cookie, and the token never reaches the browser. Other sites can make a browser send the cookie:
see `nexus_auth.csrf`.
"""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from nexus_auth.credentials import COOKIE, cookie_credential
from nexus_auth.refusal import Refused
from nexus_core.state.limits import BROWSER_LOGINS, user_payer
from nexus_core.state.stores import scoping

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nexus_auth.credentials import Credential
    from nexus_auth.known import Verified
    from nexus_core.state.stores import Store

KNOWN_SECONDS = 0.5
"""For how long a session is taken for granted: who has logged out is out after that, in every process."""

_ID_BYTES = 32
_LONGEST_ID = 64


class _Session(msgspec.Struct):
    token: str
    expires_at: float
    identity: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Session).decode


class BrowserSessions:
    """The sessions of one platform, in its store: all processes that share the store know them.

    Args:
        store: Returns the store.
        seconds: How long a session lasts at most; it ends with its token.
        ended: Called with the credential of a session that has ended here.
        https: Whether browsers reach the platform by HTTPS alone.

    Attributes:
        cookie: The cookie's name. ``__Host-`` keeps other hosts of the domain from setting it (RFC 6265bis, 4.1.3.2).
        login_cookie: The name of the one that a login which has begun is known by.
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
        """Return the id in a Cookie header, or None. Where there are two, there is none."""
        pairs = (each.partition(b"=") for each in cookies.split(b";"))
        found = [value for name, _, value in pairs if name.strip() == self._name]
        if len(found) != 1 or not 0 < len(found[0]) <= _LONGEST_ID:
            return None
        return found[0].strip().decode("latin-1")

    async def begin(self, token: str, expires_at: float | None, identity: str) -> tuple[str, float]:
        """Keep a token. Return the id of the session, and the seconds that it lasts.

        Args:
            token: The token.
            expires_at: When it ends, in seconds since the epoch.
            identity: The `Principal.identity` of who has logged in.

        Raises:
            StateLimitReached: It has as many logins as it may.
        """
        session_id, now = secrets.token_urlsafe(_ID_BYTES), time.time()
        end = min(now + self._seconds, expires_at or now + self._seconds)
        store = scoping(self._store())(BROWSER_LOGINS, user_payer(identity))
        await store.set(_key(session_id), _encode(_Session(token, end, identity)), max(1.0, end - now))
        return session_id, end - now

    async def token(self, session_id: str) -> tuple[str, float] | None:
        """Return the token of a session that goes on, and when the session ends; or None."""
        session = await self._kept(session_id)
        goes_on = session is not None and time.time() < session.expires_at
        return (session.token, session.expires_at) if session is not None and goes_on else None

    async def _kept(self, session_id: str) -> _Session | None:
        kept = await self._store().get(_key(session_id))
        try:
            return None if kept is None else _decode(kept)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # somebody else has written it

    async def end(self, session_id: str) -> None:
        """Forget a session."""
        if (kept := await self._kept(session_id)) is not None:
            store = scoping(self._store())(BROWSER_LOGINS, user_payer(kept.identity))
            await store.delete(_key(session_id))
        self._ended(cookie_credential(session_id))

    async def use_state(self, state: str, seconds: float, identity: str) -> None:
        """Note that a login with this state has succeeded.

        Args:
            state: The state.
            seconds: For how long it could be used again.
            identity: The `Principal.identity` of who has logged in.

        Raises:
            Refused: One had before.
            StateLimitReached: There were too many logins.
        """
        store = scoping(self._store())(BROWSER_LOGINS, user_payer(identity))
        if await store.add(f"login-state:{sha256(state.encode()).hexdigest()}", b"1", seconds) is not None:
            raise Refused("this login has been used before")


def _key(session_id: str) -> str:
    """The store does not learn ids: who reads it can't use them."""
    return f"login:{sha256(session_id.encode()).hexdigest()}"


def csrf_token(session_id: str) -> str:
    """Return what pages of this platform send with a session's requests: others can't know it."""
    return urlsafe_b64encode(sha256(b"nexus csrf " + session_id.encode()).digest()).rstrip(b"=").decode()


class BrowserMethod:
    """The `Method` of callers whose browser sends the cookie.

    Args:
        sessions: The sessions.
        verified: Returns who has sent a bearer token; raises as `Method.verify` does.
    """

    name = "browser"

    def __init__(self, sessions: BrowserSessions, verified: Callable[[str], Awaitable[tuple[str, Verified]]]) -> None:
        self._sessions = sessions
        self._verified = verified

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`."""
        return credential.scheme == COOKIE

    async def verify(self, credential: Credential) -> Verified:
        """See `Method.verify`."""
        found = await self._sessions.token(credential.token)
        if found is None:
            raise Refused("there is no such session")
        token, end = found
        _, verified = await self._verified(f"Bearer {token}")
        end = min(verified.expires_at, end)
        return verified._replace(seconds=min(verified.seconds, KNOWN_SECONDS), expires_at=end)

    async def open(self) -> None:
        """See `Method.open`."""

    async def close(self) -> None:
        """See `Method.close`."""
