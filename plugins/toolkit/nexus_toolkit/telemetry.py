"""`TelemetryCollector`: exports metrics and traces by OTLP over HTTP, from a thread that may block."""

from __future__ import annotations

import gzip
import logging
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import SecretStr

log = logging.getLogger(__name__)


class TelemetryCollector:
    """An OpenTelemetry collector that accepts OTLP over HTTP. An outage is logged once at its start and end.

    Args:
        url: The base URL, or the whole one.
        path: What is appended to a base URL, such as ``/v1/metrics``.
        option: The option with the URL, for the error.
        token: The bearer token, or None.

    Raises:
        ConfigurationError: The URL is not an HTTP URL.
    """

    def __init__(self, url: str, path: str, option: str, token: SecretStr | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{option} must be a URL that begins with http:// or https://.")
        base = parts.path.rstrip("/")
        self.url = parts._replace(path=base if base.endswith(path) else base + path).geturl()
        self._what = path.rpartition("/")[2]
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{urlsplit(self.url).path}"
        self._headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        self._is_unavailable = False

    def send(self, message: bytes, seconds: float) -> bool:
        """Send a protobuf message within a time limit, and return whether it was accepted."""
        body = gzip.compress(message, 1)
        try:
            request = urllib.request.Request(self.url, body, self._headers, method="POST")  # noqa: S310
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds) as response:
                response.read(65536)
        except Exception as exc:
            if not self._is_unavailable:
                log.warning("Export of %s to %s failed: %s", self._what, self._shown, _reason(exc))
            self._is_unavailable = True
            return False
        if self._is_unavailable:
            log.warning("Export of %s to %s works again", self._what, self._shown)
        self._is_unavailable = False
        return True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: neither data nor token go to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _reason(exc: Exception) -> str:
    reason = getattr(exc, "reason", exc)
    return f"{exc.code} {reason}" if isinstance(exc, urllib.error.HTTPError) else str(reason)[:200]
