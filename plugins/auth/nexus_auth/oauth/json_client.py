"""`JsonClient`: the HTTP client for issuers. Every response is bounded in size and time; redirects are refused."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_auth.rejection import Unavailable
from nexus_core.errors import ConfigurationError
from nexus_core.server.listeners import is_loopback
from nexus_core.text import printable
from nexus_core.types.addresses import can_be_rebound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx2

log = logging.getLogger(__name__)

MAX_BYTES = 512 * 1024
"""Maximum size of a response."""

MAX_CONNECTIONS = 20
PAUSE_SECONDS = 1.0
"""Seconds after a failed connection for which requests to the same URL fail at once."""

LOG_SECONDS = 60.0
"""Minimum seconds between two log lines about the same URL."""


class JsonClient:
    """An HTTP client for JSON, with one bounded connection pool.

    It follows no redirects: a response from another URL is not the issuer's.

    Args:
        seconds: Time limit of a request, in total.
        clock: Returns monotonic seconds.
        logs: Whether failures are logged; otherwise the caller reports them.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic, *, logs: bool = True) -> None:
        self._seconds = seconds
        self._clock = clock
        self._logs = logs
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
        """Return the JSON at a URL.

        Raises:
            Unavailable: The response is missing, late, too large, or not JSON.
        """
        return await self._request("GET", url, None, None)

    async def post(self, url: str, form: Mapping[str, str], auth: Any) -> Any:
        """Send a form and return the JSON of the response. Raises as `get` does."""
        return await self._request("POST", url, form, auth)

    async def _request(self, method: str, url: str, form: Mapping[str, str] | None, auth: Any) -> Any:
        async with self._slots:  # waiting for a slot does not count towards the time limit
            if self._clock() < self._down_until.get(url, 0.0):
                raise Unavailable(f"{_shown(url)}: the connection failed a moment ago")
            try:
                async with asyncio.timeout(self._seconds):
                    body = await self._body(method, url, form, auth)
                return json.loads(body)
            except Unavailable as exc:
                raise self._failed(url, str(exc), answered=True) from None
            except (ValueError, RecursionError):
                raise self._failed(url, "the response is not JSON", answered=True) from None
            except TimeoutError:
                raise self._failed(url, f"no response within {self._seconds:g} s") from None
            except Exception as exc:
                raise self._failed(url, f"{type(exc).__name__}: {exc}") from None

    async def _body(self, method: str, url: str, form: Mapping[str, str] | None, auth: Any) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        body = bytearray()
        async with self._opened().stream(method, url, data=form, auth=auth, headers=headers) as response:
            if response.is_redirect:
                raise Unavailable(f"redirects to {printable(response.headers.get('location', ''), 200)}: set that URL")
            if response.status_code != 200:
                raise Unavailable(f"status {response.status_code}")
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_BYTES:
                    raise Unavailable(f"the response has more than {MAX_BYTES} bytes")
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

    def _failed(self, url: str, reason: str, *, answered: bool = False) -> Unavailable:
        """Return the error, after logging it.

        A URL without a response is not requested for `PAUSE_SECONDS`. A response may fail because of this one request:
        a made-up token must not block the introspection of others.
        """
        error, now = Unavailable(f"{_shown(url)}: {printable(reason, 300)}", answered=answered), self._clock()
        if not answered:
            self._down_until[url] = now + PAUSE_SECONDS
        if self._logs and now >= self._quiet_until.get(url, 0.0):
            self._quiet_until[url] = now + LOG_SECONDS
            log.warning("The token issuer is unavailable: %s", error)
        return error


def _shown(url: str) -> str:
    return url.partition("?")[0]


def check_transport(option: str, url: str, *, allow_http: bool) -> str:
    """Return a URL if its transport is secure.

    Args:
        option: The option it comes from, for the error.
        url: The URL.
        allow_http: Whether another machine may be without TLS.

    Raises:
        ConfigurationError: It is on another machine and without TLS.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_local = is_loopback(host) or (host.endswith(".localhost") and not can_be_rebound(host))
    if parts.scheme == "https" or (parts.scheme == "http" and (is_local or allow_http)):
        return url
    raise ConfigurationError(
        f"{option}: without TLS, an attacker on the network could forge responses. Use https, or set auth_allow_http."
    )
