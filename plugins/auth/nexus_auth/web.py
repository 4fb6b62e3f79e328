"""`Web`: asks the issuer. Every answer is bounded in size and time, and comes from the very address that was asked."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_auth.refusal import Unavailable
from nexus_core.errors import ConfigurationError
from nexus_core.server.listeners import is_loopback
from nexus_core.text import printable
from nexus_core.types.addresses import can_be_rebound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx2

log = logging.getLogger(__name__)

MAX_BYTES = 512 * 1024
"""The largest answer that is read."""

MAX_CONNECTIONS = 20
PAUSE_SECONDS = 1.0
"""After an address could not be reached: how long nobody tries again, and everybody is told at once."""

COMPLAINT_SECONDS = 60.0
"""How often at most the log tells that an address is of no use."""


class Web:
    """An HTTP client for JSON, with one bounded pool of connections.

    It follows no redirects: an answer from elsewhere is not the issuer's.

    Args:
        seconds: How long an answer may take, all in all.
        clock: Returns the time in seconds, which never goes back.
        complains: Whether the log tells what goes wrong; else its caller does.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic, *, complains: bool = True) -> None:
        self._seconds = seconds
        self._clock = clock
        self._complains = complains
        self._client: httpx2.AsyncClient | None = None
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._down_until: dict[str, float] = {}
        self._quiet_until: dict[str, float] = {}

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def get(self, url: str) -> Any:
        """Return the JSON at an address.

        Raises:
            Unavailable: There is none, or it is too large, or does not come in time.
        """
        return await self._ask("GET", url, None, None)

    async def post(self, url: str, form: Mapping[str, str], auth: Any) -> Any:
        """Send a form and return the JSON that comes back. Raises as `get` does."""
        return await self._ask("POST", url, form, auth)

    async def _ask(self, method: str, url: str, form: Mapping[str, str] | None, auth: Any) -> Any:
        async with self._slots:  # to wait for one's turn is not to wait for the issuer
            if self._clock() < self._down_until.get(url, 0.0):
                raise Unavailable(f"{_shown(url)}: it could not be reached a moment ago")
            try:
                async with asyncio.timeout(self._seconds):
                    body = await self._body(method, url, form, auth)
                return json.loads(body)
            except Unavailable as exc:
                raise self._failed(url, str(exc), answered=True) from None
            except (ValueError, RecursionError):
                raise self._failed(url, "the answer is not JSON", answered=True) from None
            except TimeoutError:
                raise self._failed(url, f"no answer within {self._seconds:g} s") from None
            except Exception as exc:
                raise self._failed(url, f"{type(exc).__name__}: {exc}") from None

    async def _body(self, method: str, url: str, form: Mapping[str, str] | None, auth: Any) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        body = bytearray()
        async with self._opened().stream(method, url, data=form, auth=auth, headers=headers) as response:
            if response.is_redirect:
                raise Unavailable(
                    f"it leads to {printable(response.headers.get('location', ''), 200)}: set that address"
                )
            if response.status_code != 200:
                raise Unavailable(f"it answered {response.status_code}")
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_BYTES:
                    raise Unavailable(f"the answer has more than {MAX_BYTES} bytes")
        return bytes(body)

    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2

            self._client = httpx2.AsyncClient(
                timeout=self._seconds,
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=MAX_CONNECTIONS),
            )
        return self._client

    def _failed(self, url: str, why: str, *, answered: bool = False) -> Unavailable:
        """Return the error.

        An address that does not answer gets a pause. One that does may have had its reasons with this very question:
        somebody's made-up token must not keep others from being asked about.
        """
        error, now = Unavailable(f"{_shown(url)}: {printable(why, 300)}", answered=answered), self._clock()
        if not answered:
            self._down_until[url] = now + PAUSE_SECONDS
        if self._complains and now >= self._quiet_until.get(url, 0.0):
            self._quiet_until[url] = now + COMPLAINT_SECONDS
            log.warning("The issuer of tokens can't be asked. %s", error)
        return error


def _shown(url: str) -> str:
    return url.partition("?")[0]


def check_transport(option: str, url: str, *, allow_http: bool) -> str:
    """Return a URL that nobody on the way can answer in the issuer's place.

    Args:
        option: Where it comes from, for the error.
        url: The URL.
        allow_http: Whether it may do without TLS.

    Raises:
        ConfigurationError: It is on another machine, and without TLS.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    here = is_loopback(host) or (host.endswith(".localhost") and not can_be_rebound(host))
    if parts.scheme == "https" or (parts.scheme == "http" and (here or allow_http)):
        return url
    raise ConfigurationError(
        f"{option}: without TLS, whoever sits in between could let anybody in. Use https, or set auth_allow_http."
    )
