"""The header ``WWW-Authenticate`` for callers without a valid credential (RFC 6750, RFC 9728)."""

from __future__ import annotations

METADATA_PATH = "/.well-known/oauth-protected-resource"
"""Path of the protected resource metadata (RFC 9728)."""

ORIGIN = "{origin}"
"""Placeholder for the origin that the caller used, which channels replace."""

RESOURCE_PATHS = {"api": "", "cli": "/cli", "mcp": "/mcp"}
"""Path of each channel's resource: clients compare it with the URL that they use."""


class Challenges:
    """The challenges of one platform.

    Args:
        has_issuer: Whether there is an issuer, and so resource metadata.
        resource_url: The platform's public URL; None for the one that the caller used.
    """

    def __init__(self, *, has_issuer: bool, resource_url: str | None = None) -> None:
        self._origin = (resource_url or ORIGIN).rstrip("/") if has_issuer else None

    def missing(self, channel: str) -> str:
        """Return the challenge for callers without a credential."""
        return self._text(channel, "")

    def invalid(self, channel: str) -> str:
        """Return the challenge for callers whose credential is not valid."""
        return self._text(channel, ', error="invalid_token"')

    def _text(self, channel: str, error: str) -> str:
        text = f'Bearer realm="nexus"{error}'
        if self._origin is None:
            return text
        return f'{text}, resource_metadata="{self._origin}{METADATA_PATH}{RESOURCE_PATHS.get(channel, "")}"'
