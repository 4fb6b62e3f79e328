"""`TelemetryCollector`: where a platform's metrics and traces are sent, by HTTP, from a thread that may wait."""

from __future__ import annotations

import gzip
import logging
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from nexus_core.errors import ConfigurationError

log = logging.getLogger(__name__)


class TelemetryCollector:
    """An OpenTelemetry collector that takes OTLP over HTTP. That it is away is logged once, and when it is back.

    Args:
        url: Its base address, or the whole one.
        path: What a base address is completed with, such as ``/v1/metrics``.
        option: The option that holds the address, for the error.
        token: What is sent as a bearer token, or None.

    Raises:
        ConfigurationError: It is no HTTP address.
    """

    def __init__(self, url: str, path: str, option: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{option} must be an address that begins with http:// or https://.")
        base = parts.path.rstrip("/")
        self.url = parts._replace(path=base if base.endswith(path) else base + path).geturl()
        self._what = path.rpartition("/")[2]
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{urlsplit(self.url).path}"
        self._headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._is_away = False

    def send(self, message: bytes, seconds: float) -> bool:
        """Send a message of protobuf, and return whether it was taken. It may take that many seconds."""
        body = gzip.compress(message, 1)
        try:
            request = urllib.request.Request(self.url, body, self._headers, method="POST")  # noqa: S310
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds) as response:
                response.read(65536)
        except Exception as exc:
            if not self._is_away:
                log.warning("The %s can't be sent to %s: %s", self._what, self._shown, _reason(exc))
            self._is_away = True
            return False
        if self._is_away:
            log.warning("The %s can be sent to %s again", self._what, self._shown)
        self._is_away = False
        return True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is sent, and the token that goes with it, is for nobody else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _reason(exc: Exception) -> str:
    reason = getattr(exc, "reason", exc)
    return f"{exc.code} {reason}" if isinstance(exc, urllib.error.HTTPError) else str(reason)[:200]
