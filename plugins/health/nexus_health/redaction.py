"""`Redactor`: takes secrets out of what checks say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from nexus_core.schema.report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus_core.options import PluginSettings

LONGEST = 300
"""Characters of a text that are shown."""

_READ = 2000
"""Characters of a text that are looked at."""

_SHORTEST_SECRET = 6
"""Characters of a secret that is looked for: a shorter one might be any word."""

_NAMES = r"pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|private[_-]?key|authorization|credential|cookie"
_PATTERNS = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s'\"<>]*@"), r"\1***@"),
    (re.compile(r"(?i)\b(bearer|basic|digest)\s+[\w.~+/=:-]{4,}"), r"\1 ***"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"), "***"),
    (
        re.compile(rf"(?i)([\w-]{{0,40}}(?:{_NAMES})[\w-]{{0,40}}[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&]+)"),
        r"\1***",
    ),
)
_SECRET_NAME = re.compile(rf"(?i){_NAMES}")


def is_secret_name(name: str) -> bool:
    """Whether what has this name is likely to be a secret."""
    return _SECRET_NAME.search(name) is not None and "public" not in name.lower()


class Redactor:
    """Replaces secrets by ``***``: those of the options, and whatever looks like one.

    Args:
        secrets: Texts that must not be shown.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({each for each in secrets if len(each) >= _SHORTEST_SECRET}, key=len, reverse=True)

    @classmethod
    def of(cls, settings: Iterable[PluginSettings]) -> Redactor:
        """Return one that knows the secrets among options, and the passwords in their URLs."""
        found: list[str] = []
        for model in settings:
            for name in type(model).model_fields:
                value = getattr(model, name)
                if isinstance(value, SecretStr):
                    secret = value.get_secret_value()
                    found += [secret, *_passwords(secret)]
        return cls(found)

    def text(self, text: str, limit: int = LONGEST) -> str:
        """Return a text on one line, cut, without secrets."""
        text = " ".join(text[:_READ].split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return printable(text, limit)

    def value(self, value: Any, name: str = "") -> Any:
        """Return a JSON value without secrets.

        Args:
            value: The value.
            name: The member's name.
        """
        if name and is_secret_name(name) and value not in (None, "", True, False):
            return "***"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key, 100): self.value(each, key) for key, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, list) else value


def _passwords(text: str) -> list[str]:
    if "://" not in text:
        return []
    try:
        password = urlsplit(text).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []
