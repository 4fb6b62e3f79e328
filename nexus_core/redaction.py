"""`Redactor`: takes secrets out of what is shown to operators, by the names they have and by how they look."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from nexus_core.options import PluginSettings

HIDDEN = "***"
"""What stands in a secret's place."""

WORDS = frozenset({
    "credential", "credentials", "passcode", "passphrase", "passwd", "password", "passwords", "pwd", "secret",
    "secrets",
})  # fmt: skip
"""Words that make the name they are part of a secret's: ``db_password``, ``clientSecret``, ``password_again``."""

LAST_WORDS = frozenset({"authorization", "cookie", "cookies", "cvc", "cvv", "jwt", "pin", "ssn", "token"})
"""Words that do at its end: ``X-Auth-Token``, but not ``token_type``."""

PAIRS = frozenset({("access", "key"), ("api", "key"), ("encryption", "key"), ("private", "key"), ("signing", "key")})
"""Pairs of words that do. ``apikey`` is written in one word, too."""

SHORTEST = 4
"""Characters that a secret must have to be looked for in other text: shorter ones are parts of many words."""

SHORTEST_OPTION = 6
"""Characters that an option's secret must have: ``dev`` as a password would hide a part of many words."""

LONGEST = 4096
"""Characters of it that are looked for."""

SMALL = 20
NUMBERS = (int, float, bool, type(None))

DEPTH = 32
ITEMS = 1000
"""How far parameters are looked through. What lies deeper, or comes later, is not shown."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_LOOKS_SECRET = re.compile(
    r"(?P<scheme>\b(?:bearer|basic|digest)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|\beyJ[\w-]{8,500}\.[\w-]+(?:\.[\w-]*)?"
    r"|\bnxk_\w+"
    r"|(?P<address>://)[^\s'\"<>]{1,300}(?P<at>@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.IGNORECASE | re.DOTALL,
)
"""Every part has a bound: a hostile text must not take long."""

_ASSIGNMENT = re.compile(
    r"""(?P<name>[\w.-]{2,80})(?P<sign>["']?\s*[=:]\s*)(?P<quote>["']?)(?P<value>[^\s,;&"'})\]]+)"""
)


class Redactor:
    """Knows what is secret.

    Args:
        names: Names whose values are secret, beside those that `WORDS`, `LAST_WORDS` and `PAIRS` make so.
        secrets: Texts that are, wherever they stand: see `option_secrets`.
    """

    def __init__(self, names: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        self._names = frozenset(name.casefold() for name in names)
        self._secrets = sorted({each for each in secrets if len(each) >= SHORTEST_OPTION}, key=len, reverse=True)
        self._known: dict[str, bool] = {}

    def is_secret(self, name: str) -> bool:
        """Whether what a name stands for is secret."""
        known = self._known.get(name)
        if known is None:
            known = self._looks_secret(name)
            if len(self._known) < 1000 and len(name) <= 100:  # callers make up names
                self._known[name] = known
        return known

    def _looks_secret(self, name: str) -> bool:
        if name.casefold() in self._names:
            return True
        words = [word.lower() for word in _WORD.findall(name[:1000]) if not word.isdigit()]
        return (
            not WORDS.isdisjoint(words)
            or "apikey" in words
            or (bool(words) and words[-1] in LAST_WORDS)
            or any(pair in PAIRS for pair in pairwise(words))
        )

    def text(self, text: str, secrets: Collection[str] = ()) -> str:
        """Return a text without secrets.

        Args:
            text: Any text.
            secrets: What is known to be secret, wherever it stands. The longest first.
        """
        if len(text) < SHORTEST:
            return text
        for secret in (*secrets, *self._secrets):
            if secret in text:
                text = text.replace(secret, HIDDEN)
        text = _LOOKS_SECRET.sub(_without_secret, text)
        if "=" in text or ":" in text:
            text = _ASSIGNMENT.sub(self._assignment, text)
        return text

    def _assignment(self, found: re.Match[str]) -> str:
        if not self.is_secret(found["name"]):
            return found[0]
        return f"{found['name']}{found['sign']}{found['quote']}{HIDDEN}"

    def is_plain(self, value: Any, marked: Collection[str] = ()) -> bool:
        """Whether a JSON value is a small object of numbers, none of them secret: most parameters are."""
        return (
            type(value) is dict
            and len(value) <= SMALL
            and all(type(each) in NUMBERS for each in value.values())
            and not any(name in marked or len(str(name)) > LONGEST or self.is_secret(str(name)) for name in value)
        )

    def value(self, value: Any, secrets: Collection[str] = (), marked: Collection[str] = ()) -> Any:
        """Return a JSON value without secrets: those under a secret's name, and those in its texts.

        Args:
            value: What came as JSON; it is not changed.
            secrets: What is known to be secret.
            marked: Names whose values are secret here.
        """
        return self._value(value, secrets, marked, DEPTH, [ITEMS])

    def _value(self, value: Any, secrets: Collection[str], marked: Collection[str], depth: int, left: list[int]) -> Any:
        left[0] -= 1
        if depth == 0 or left[0] < 0:
            return "..."
        if isinstance(value, str):
            return self.text(value[:LONGEST], secrets) + ("..." if len(value) > LONGEST else "")
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, dict):
            shown = {}
            for name, each in value.items():
                if left[0] <= 0:
                    break
                is_hidden = name in marked or self.is_secret(str(name))
                shown[str(name)[:LONGEST]] = (
                    HIDDEN if is_hidden else self._value(each, secrets, marked, depth - 1, left)
                )
            return shown
        if isinstance(value, (list, tuple)):
            return [self._value(each, secrets, marked, depth - 1, left) for each in value[: max(left[0], 0)]]
        return f"<{type(value).__name__}>"

    def secrets_in(self, value: Any, marked: Collection[str] = ()) -> set[str]:
        """Return the texts and numbers in a JSON value that are secret, to be looked for elsewhere."""
        found: set[str] = set()
        self._collect(value, marked, False, DEPTH, [ITEMS], found)
        return found

    def _collect(
        self, value: Any, marked: Collection[str], is_secret: bool, depth: int, left: list[int], found: set[str]
    ) -> None:
        if isinstance(value, dict):
            pairs = [(each, is_secret or name in marked or self.is_secret(str(name))) for name, each in value.items()]
        elif isinstance(value, (list, tuple)):
            pairs = [(each, is_secret) for each in value[:ITEMS]]
        else:
            return
        for each, is_inside_secret in pairs:
            left[0] -= 1
            if depth == 0 or left[0] < 0:
                return
            if isinstance(each, (dict, list, tuple)):
                self._collect(each, marked, is_inside_secret, depth - 1, left, found)
            elif is_inside_secret and isinstance(each, (str, int, float)) and not isinstance(each, bool):
                text = str(each)[:LONGEST]
                if len(text) >= SHORTEST:
                    found.add(text)


def option_secrets(settings: Iterable[PluginSettings]) -> list[str]:
    """Return the secrets among options, and the passwords in addresses among these."""
    found: list[str] = []
    for model in settings:
        for name in type(model).model_fields:
            value = getattr(model, name)
            if isinstance(value, SecretStr):
                found += [value.get_secret_value(), *_passwords(value.get_secret_value())]
    return found


def _passwords(text: str) -> list[str]:
    if "://" not in text:
        return []
    try:
        password = urlsplit(text).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def _without_secret(found: re.Match[str]) -> str:
    return (found["scheme"] or found["address"] or "") + HIDDEN + (found["at"] or "")
