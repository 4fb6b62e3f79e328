"""The address that callers have for the platform: where it is mounted, and what stands in front of it.

A proxy may serve the platform below a path, under another name and with TLS. What it says of that counts where it is
one of ``trusted_proxies`` (``X-Forwarded-Proto``, ``-Host``, ``-Prefix``); ``public_url`` says it for all requests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from nexus_core.server.caller import headers_of
from nexus_core.types.addresses import PublicUrl, parse_host, parse_prefix, parse_public_url

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.options.settings import CoreSettings
    from nexus_core.server.channel import ASGIApp, Receive, Scope, Send
    from nexus_core.server.proxies import TrustedProxies

_ORIGIN = "nexus.origin"
_MOUNTED_AT = "nexus.mounted_at"
_PUBLIC = "nexus.public_url"
_SCHEMES = {"ws": "http", "wss": "https"}
_PLATFORM = re.compile(r"/(api|docs|openapi\.json|mcp|cli|health|auth|\.well-known|metrics)(/|$)")
"""Paths of the platform's own: a request for one of them has lost the prefix on its way."""


class PublicAddress:
    """Middleware: what is behind sees the address that the caller has used, as ASGI's ``root_path`` and ``scheme``.

    It sees the caller's own address as well, as ASGI's ``client``: what counts by address, and needs no invocation for
    that, must not take all callers behind one proxy for one.

    Args:
        app: What is behind.
        options: The core's.
        proxies: Knows the proxies that are believed; None for none.
    """

    def __init__(self, app: ASGIApp, options: CoreSettings, proxies: TrustedProxies | None) -> None:
        self._app = app
        self._public = parse_public_url(options.public_url) if options.public_url else None
        self._proxies = proxies

    @staticmethod
    def is_needed(options: CoreSettings) -> bool:
        """Whether there is anything to do."""
        return bool(options.public_url or options.trusted_proxies)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass a request on."""
        if scope["type"] in ("http", "websocket"):
            scope = self._public_scope(scope)
        return self._app(scope, receive, send)

    def _public_scope(self, scope: Scope) -> Scope:
        peer = scope.get("client")
        is_trusted = peer is not None and self._proxies is not None and self._proxies.trusts(peer[0])
        if peer is not None and self._proxies is not None and is_trusted:
            scope = {**scope, "client": (self._proxies.client(peer[0], headers_of(scope)), 0)}
        if self._public is not None:
            return _placed(scope, self._public.path, self._public.origin) | {_PUBLIC: self._public}
        if not is_trusted:
            return scope
        said = {name: _last(value) for name, value in scope["headers"] if name.startswith(b"x-forwarded-")}
        scheme = said.get(b"x-forwarded-proto", "").lower()
        host = parse_host(said.get(b"x-forwarded-host", ""))
        prefix = parse_prefix(said.get(b"x-forwarded-prefix", ""))
        own_scheme, _, own_host = origin_of(scope).partition("://")
        scheme = scheme if scheme in ("http", "https") else own_scheme
        origin = f"{scheme}://{own_host if host is None else host.text}"
        return _placed(scope, (prefix or "") + scope.get("root_path", ""), origin)


def _last(value: bytes) -> str:
    """Return the last of several values: the nearest proxy's, which is the one that is believed."""
    return value.decode("latin-1").rpartition(",")[2].strip()


def _placed(scope: Scope, prefix: str, origin: str) -> dict[str, object]:
    """Return a scope whose path is below a prefix, whether the proxy has taken that away or not."""
    mounted = scope.get("root_path", "")
    path = local_path(scope)
    if not mounted and prefix and f"{path}/".startswith(f"{prefix}/") and not _PLATFORM.match(path):
        path = path.removeprefix(prefix) or "/"
    scheme = origin.partition("://")[0]
    secure = {"ws": "wss", "http": "https"}
    own = "ws" if scope["type"] == "websocket" else "http"
    return {
        **scope,
        "scheme": secure[own] if scheme == "https" else own,
        "root_path": prefix,
        "path": prefix + path,
        _ORIGIN: origin,
        _MOUNTED_AT: mounted,
    }


def mounted_at(scope: Scope) -> str:
    """Return the path that the application around the platform has mounted it at; empty for none."""
    path: str = scope.get(_MOUNTED_AT, scope.get("root_path", ""))
    return path


def local_path(scope: Scope) -> str:
    """Return a request's path below the one that the application is mounted at."""
    path: str = scope["path"]
    root = root_path(scope)
    return path[len(root) :] if f"{path}/".startswith(f"{root}/") else path


def server_url(scope: Scope) -> str:
    """Return where a document about the platform says that it is: ``public_url``, or a path on the document's host."""
    public: PublicUrl | None = scope.get(_PUBLIC)
    return quote(root_path(scope)) or "/" if public is None else public.origin + quote(public.path)


def root_path(scope: Scope) -> str:
    """Return the path that the platform is at for its caller, without a slash at its end."""
    path: str = scope.get("root_path", "")
    return path.rstrip("/")


def base_url_of(scope: Scope) -> str:
    """Return the address that the platform has for a caller: the origin, and the path that it is mounted at."""
    return origin_of(scope) + quote(root_path(scope))


def origin_of(scope: Scope) -> str:
    """Return the scheme and host that a caller has used, such as ``https://api.example.com``.

    An invalid Host header is not repeated: the server's own address stands in its place.
    """
    known: str | None = scope.get(_ORIGIN)
    if known is not None:
        return known
    scheme = scope.get("scheme", "http")
    text = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    host = text if parse_host(text) else _own_host(scope)
    return f"{_SCHEMES.get(scheme, scheme)}://{host}"


def _own_host(scope: Scope) -> str:
    name, port = scope.get("server") or ("localhost", None)
    name = f"[{name}]" if ":" in name else name
    return name if port is None else f"{name}:{port}"
