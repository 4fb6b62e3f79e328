"""What a caller without a good credential is told: the header ``WWW-Authenticate`` (RFC 6750, RFC 9728)."""

from __future__ import annotations

METADATA_PATH = "/.well-known/oauth-protected-resource"
"""Where this platform says who issues tokens for it (RFC 9728)."""

ORIGIN = "{origin}"
"""Stands for the address that the caller has used; channels know it."""

RESOURCE_PATHS = {"api": "", "cli": "/cli", "mcp": "/mcp"}
"""Where each channel is below the platform's address: clients compare the resource with the address that they use."""


class Challenges:
    """The challenges of one platform.

    Args:
        has_issuer: Whether there is one to name.
        resource_url: The platform's address; None for the one that the caller has used.
    """

    def __init__(self, *, has_issuer: bool, resource_url: str | None = None) -> None:
        self._origin = (resource_url or ORIGIN).rstrip("/") if has_issuer else None

    def missing(self, channel: str) -> str:
        """Return what is told to callers without a credential."""
        return self._text(channel, "")

    def invalid(self, channel: str) -> str:
        """Return what is told to callers whose credential is not accepted."""
        return self._text(channel, ', error="invalid_token"')

    def _text(self, channel: str, error: str) -> str:
        text = f'Bearer realm="nexus"{error}'
        if self._origin is None:
            return text
        return f'{text}, resource_metadata="{self._origin}{METADATA_PATH}{RESOURCE_PATHS.get(channel, "")}"'
