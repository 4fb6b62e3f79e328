"""`Issuer`: what an OpenID Connect or OAuth2 server says of itself (OpenID Connect Discovery, RFC 8414)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_auth.refusal import Unavailable
from nexus_auth.web import COMPLAINT_SECONDS, check_transport
from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.errors import ConfigurationError
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_auth.web import Web

log = logging.getLogger(__name__)

_TENANT = "{tenantid}"
"""What Entra's metadata for all tenants have in the place of one."""

RECENT_SECONDS = 300.0
"""For how long the metadata serve for logins. Anybody may begin one: the issuer is not to be asked each time."""


class Issuer:
    """An issuer and its metadata, asked for when they are first needed, and again whenever keys are.

    Args:
        url: The issuer.
        web: Who asks.
        allow_http: Whether its addresses may do without TLS.
        own_name: What it calls itself, where that is another than its address: ``iss`` of its tokens.

    Attributes:
        name: What it calls itself, as far as that is known: clients compare it letter by letter.
    """

    def __init__(self, url: str, web: Web, *, allow_http: bool = False, own_name: str | None = None) -> None:
        self.url = check_transport("auth_service_url", url, allow_http=allow_http)
        self.name = own_name or url
        self._own_name = own_name
        self._reports = RateLimitedLog(log, COMPLAINT_SECONDS)
        self._web = web
        self._allow_http = allow_http
        self._recent: dict[str, Any] = {}
        self._recent_until = 0.0
        self._asking = asyncio.Lock()

    async def metadata(self) -> dict[str, Any]:
        """Return the metadata.

        Raises:
            Unavailable: They can't be had, or are another issuer's.
        """
        error: Unavailable | None = None
        for url in _addresses(self.url):
            try:
                found = await self._web.get(url)
            except Unavailable as exc:
                error = error or exc
                if not exc.answered:
                    break
                continue
            return self._checked(found, url)
        assert error is not None
        raise error

    async def recent(self) -> dict[str, Any]:
        """Return the metadata, asked for once for all who want them at a time. Raises as `metadata` does."""
        async with self._asking:
            if time.monotonic() >= self._recent_until:
                self._recent = await self.metadata()
                self._recent_until = time.monotonic() + RECENT_SECONDS
        return self._recent

    async def endpoint(self, name: str) -> str:
        """Return one of its addresses, such as ``token_endpoint``.

        Raises:
            Unavailable: It has none.
        """
        return self.address(await self.recent(), name)

    def address(self, metadata: dict[str, Any], name: str) -> str:
        """Return an address of metadata, if it is one to rely on."""
        found = metadata.get(name)
        if not isinstance(found, str) or not urlsplit(found).hostname:
            raise Unavailable(f"{self.url} names no {name}")
        try:
            return check_transport(name, found, allow_http=self._allow_http)
        except ConfigurationError as exc:
            raise Unavailable(str(exc)) from None

    def _checked(self, found: Any, url: str) -> dict[str, Any]:
        name = found.get("issuer") if isinstance(found, dict) else None
        if not isinstance(name, str):
            raise Unavailable(f"{url} does not say whose metadata it has", answered=True)
        if self._own_name is not None and _fits(name, self._own_name):
            return found | {"issuer": self._own_name}  # type: ignore[no-any-return]
        if name.rstrip("/") != self.url.rstrip("/"):
            raise self._is_called_otherwise(name)
        self.name = name
        return found  # type: ignore[no-any-return]

    def _is_called_otherwise(self, name: str) -> Unavailable:
        """Return the error of an issuer that answers and has another name: in a container, or for many tenants."""
        expected = "" if self._own_name is None else f", and jwt_issuer is {printable(self._own_name, 80)}"
        text = (
            f"the issuer at {printable(self.url, 80)} calls itself {printable(name, 80)}{expected}: set jwt_issuer to "
            "what iss is in its tokens, or auth_service_url to its own name"
        )
        self._reports.log(logging.WARNING, name, "auth_service_url: %s. Its tokens are not accepted.", text)
        return Unavailable(text, answered=True)


def _fits(name: str, own_name: str) -> bool:
    """Whether metadata are those of an issuer. Where it has many tenants they may have ``{tenantid}`` for one."""
    begin, placeholder, end = name.rstrip("/").partition(_TENANT)
    own = own_name.rstrip("/")
    if not placeholder:
        return begin == own
    tenant = own.removeprefix(begin).removesuffix(end) if own.startswith(begin) and own.endswith(end) else ""
    return bool(tenant) and "/" not in tenant and len(own) == len(begin) + len(tenant) + len(end)


def _addresses(issuer: str) -> list[str]:
    """Return where the metadata may be: as OpenID Connect has it, and as RFC 8414 has it."""
    base = issuer.rstrip("/")
    parts = urlsplit(base)
    origin = f"{parts.scheme}://{parts.netloc}"
    return [
        f"{base}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{parts.path}",
    ]
