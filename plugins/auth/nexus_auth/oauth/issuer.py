"""`Issuer`: the metadata of an OpenID Connect or OAuth2 server (OpenID Connect Discovery, RFC 8414)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_auth.oauth.json_client import LOG_SECONDS, check_transport
from nexus_auth.rejection import Unavailable
from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.errors import ConfigurationError
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_auth.oauth.json_client import JsonClient
    from nexus_auth.settings import AuthSettings

log = logging.getLogger(__name__)

_TENANT = "{tenantid}"
"""The placeholder for the tenant in Entra's metadata for all tenants."""

RECENT_SECONDS = 300.0
"""Seconds for which the metadata are cached for logins, which any client can start."""


class Issuer:
    """An issuer and its metadata, fetched when first needed, and again whenever its keys are.

    Args:
        url: The issuer's URL.
        http: The HTTP client.
        allow_http: Whether its URLs may be without TLS.
        own_name: Its name, the ``iss`` of its tokens, if that differs from its URL.

    Attributes:
        name: Its name, as far as known. Clients compare it exactly.
    """

    def __init__(self, url: str, http: JsonClient, *, allow_http: bool = False, own_name: str | None = None) -> None:
        self.url = check_transport("auth_service_url", url, allow_http=allow_http)
        self.name = own_name or url
        self._own_name = own_name
        self._reports = RateLimitedLog(log, LOG_SECONDS)
        self._http = http
        self._allow_http = allow_http
        self._recent: dict[str, Any] = {}
        self._recent_until = 0.0
        self._lock = asyncio.Lock()

    async def metadata(self) -> dict[str, Any]:
        """Return the metadata.

        Raises:
            Unavailable: They can't be fetched, or are another issuer's.
        """
        error: Unavailable | None = None
        for url in _metadata_urls(self.url):
            try:
                found = await self._http.get(url)
            except Unavailable as exc:
                error = error or exc
                if not exc.answered:
                    break
                continue
            return self._checked(found, url)
        assert error is not None
        raise error

    async def recent(self) -> dict[str, Any]:
        """Return the metadata, cached for `RECENT_SECONDS`. Raises as `metadata` does."""
        async with self._lock:
            if time.monotonic() >= self._recent_until:
                self._recent = await self.metadata()
                self._recent_until = time.monotonic() + RECENT_SECONDS
        return self._recent

    async def endpoint(self, name: str) -> str:
        """Return one of its URLs, such as ``token_endpoint``.

        Raises:
            Unavailable: The metadata do not have it.
        """
        return self.address(await self.recent(), name)

    def address(self, metadata: dict[str, Any], name: str) -> str:
        """Return a URL of the metadata, if it is safe to use."""
        found = metadata.get(name)
        if not isinstance(found, str) or not urlsplit(found).hostname:
            raise Unavailable(f"the metadata of {self.url} have no {name}")
        try:
            return check_transport(name, found, allow_http=self._allow_http)
        except ConfigurationError as exc:
            raise Unavailable(str(exc)) from None

    def _checked(self, found: Any, url: str) -> dict[str, Any]:
        name = found.get("issuer") if isinstance(found, dict) else None
        if not isinstance(name, str):
            raise Unavailable(f"the metadata at {url} have no issuer", answered=True)
        if self._own_name is not None and _fits(name, self._own_name):
            return found | {"issuer": self._own_name}  # type: ignore[no-any-return]
        if name.rstrip("/") != self.url.rstrip("/"):
            raise self._other_name(name)
        self.name = name
        return found  # type: ignore[no-any-return]

    def _other_name(self, name: str) -> Unavailable:
        """Return the error for an issuer with another name, as in a container, or for several tenants."""
        expected = "" if self._own_name is None else f", and jwt_issuer is {printable(self._own_name, 80)}"
        text = (
            f"the issuer at {printable(self.url, 80)} has the name {printable(name, 80)}{expected}: set jwt_issuer to "
            "the iss of its tokens, or auth_service_url to this name"
        )
        self._reports.log(logging.WARNING, name, "auth_service_url: %s. Its tokens are rejected.", text)
        return Unavailable(text, answered=True)


def _fits(name: str, own_name: str) -> bool:
    """Whether a name in metadata is an issuer's own. It may have ``{tenantid}`` in place of the tenant."""
    begin, placeholder, end = name.rstrip("/").partition(_TENANT)
    own = own_name.rstrip("/")
    if not placeholder:
        return begin == own
    tenant = own.removeprefix(begin).removesuffix(end) if own.startswith(begin) and own.endswith(end) else ""
    return bool(tenant) and "/" not in tenant and len(own) == len(begin) + len(tenant) + len(end)


def _metadata_urls(issuer: str) -> list[str]:
    """Return where the metadata may be: by OpenID Connect Discovery, and by RFC 8414."""
    base = issuer.rstrip("/")
    parts = urlsplit(base)
    origin = f"{parts.scheme}://{parts.netloc}"
    return [
        f"{base}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{parts.path}",
    ]


def issuer_url(settings: AuthSettings) -> str | None:
    """Return the URL of the issuer that callers can get tokens from, if there is one."""
    url = settings.auth_service_url or settings.jwt_issuer
    return url if url is not None and url.startswith(("https://", "http://")) else None


def configured_issuer(settings: AuthSettings, http: JsonClient) -> Issuer:
    """Return the issuer at ``auth_service_url``. ``jwt_issuer`` is its name in tokens, where that is another."""
    assert settings.auth_service_url is not None  # see `refuse_gaps`
    return Issuer(settings.auth_service_url, http, allow_http=settings.auth_allow_http, own_name=settings.jwt_issuer)
