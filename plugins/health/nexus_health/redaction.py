"""`ReportRedactor`: redacts and truncates the output of checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import HIDDEN, Redactor, option_secrets

from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core.options.settings import PluginSettings

LONGEST = 300
"""Characters of a text, at most."""

_READ = 2000
"""Characters of a text that are searched for secrets."""


class ReportRedactor:
    """Replaces secrets by ``***``: those of the options, and what looks like one.

    Args:
        secrets: Texts to redact.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._redactor = Redactor(secrets=secrets)

    @classmethod
    def of(cls, settings: Iterable[PluginSettings]) -> ReportRedactor:
        """Return a redactor of the secrets in options, including passwords in URLs."""
        return cls(option_secrets(settings))

    def is_secret(self, name: str) -> bool:
        """Whether a name is that of a secret."""
        return self._redactor.is_secret(name)

    def text(self, text: str, limit: int = LONGEST) -> str:
        """Return a text redacted, on one line, and truncated."""
        return printable(self._redactor.text(" ".join(text[:_READ].split())), limit)

    def value(self, value: Any, name: str = "") -> Any:
        """Return a JSON value, redacted.

        Args:
            value: The value.
            name: The name of the member with the value.
        """
        if name and self.is_secret(name) and value not in (None, "", True, False):
            return HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key, 100): self.value(each, key) for key, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, list) else value
