"""`Redactor`: takes secrets out of what is shown to operators, by the names they have and by how they look."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice, pairwise
from math import isfinite
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import msgspec
from pydantic import SecretBytes, SecretStr

if TYPE_CHECKING:
    from nexus_core.options.settings import PluginSettings

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
CHARACTERS = 32_000
SECRETS = 100
"""How far parameters are looked through. What lies deeper, or comes later, is not shown."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# Each of these takes time in proportion to the text, however hostile that is: none begins in the midst of what it fits.
_ADDRESS = re.compile(r"(?<=://)[^\s'\"<>]{1,1000}")
_LOOKS_SECRET = re.compile(
    r"(?P<scheme>\b(?:bearer|basic|digest)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
    r"|\bnxk_\w+"
    r"|(?<![0-9a-f])[0-9a-f]{48}(?![0-9a-f])"  # a session's id, see `nexus_core.state.stored_sessions`
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_ASSIGNMENT = re.compile(
    r"""(?<![\w.-])(?P<name>[\w.-]{2,200})(?P<sign>["']?\s*[=:]\s*)(?P<quote>["']?)(?=[^\s,;&"'})\]])"""
)
_ASSIGNED = re.compile(r"""[^\s,;&"'})\]]+""")


SHOWN_OF_ID = 8
"""Characters of a session's id that logs and traces show: enough to tell it from others, too few to use it."""


def short_id(session_id: str) -> str:
    """Return what logs and traces show of a session's id: without authentication, the id alone grants the session."""
    return f"{session_id[: min(SHOWN_OF_ID, len(session_id) // 4)]}..."


class _Budget:
    """How much more is shown."""

    def __init__(self, items: int = ITEMS, characters: int = CHARACTERS, longest: int = LONGEST) -> None:
        self.items = items
        self.characters = characters
        self.longest = longest

    def is_spent(self) -> bool:
        return self.items <= 0 or self.characters <= 0


class Redactor:
    """Knows what is secret.

    Args:
        names: Names whose values are secret, in addition to names that `WORDS`, `LAST_WORDS` and `PAIRS` make so.
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
        if "@" in text:
            text = _ADDRESS.sub(_without_user, text)
        text = _LOOKS_SECRET.sub(_without_secret, text)
        if "=" in text or ":" in text:
            text = self._without_assigned(text)
        return text

    def _without_assigned(self, text: str) -> str:
        """Hide what is assigned to secret names. What stands behind another name may be an assignment again."""
        parts, kept = [], 0
        for found in _ASSIGNMENT.finditer(text):
            if found.start() >= kept and self.is_secret(found["name"]):
                value = _ASSIGNED.match(text, found.end())
                parts += [text[kept : found.end()], HIDDEN]
                kept = found.end() if value is None else value.end()
        return "".join((*parts, text[kept:])) if parts else text

    def is_plain(self, value: Any, marked: Collection[str] = ()) -> bool:
        """Whether a JSON value is a small object of numbers, none of them secret: most parameters are."""
        if type(value) is not dict or len(value) > SMALL:
            return False
        known = self._known
        for name, each in value.items():
            if type(each) not in NUMBERS or name in marked:
                return False
            if known.get(name) is not False and (len(str(name)) > LONGEST or self.is_secret(str(name))):
                return False
        return True

    def value(self, value: Any, secrets: Collection[str] = (), marked: Collection[str] = ()) -> Any:
        """Return a JSON value without secrets: those under a secret's name, and those in its texts.

        Args:
            value: What came as JSON; it is not changed.
            secrets: What is known to be secret.
            marked: Names whose values are secret here.
        """
        return self._value(value, secrets, marked, DEPTH, _Budget())

    def whole_value(self, value: Any, marked: Collection[str] = ()) -> Any:
        """Return a JSON value without secrets, however large it is. Only what lies too deep is left out.

        Args:
            value: What came as JSON; it is not changed.
            marked: Names whose values are secret here. They are looked for in other texts too.
        """
        if self.is_plain(value, marked):
            return value
        secrets = sorted(self.secrets_in(value, marked), key=len, reverse=True)
        return self._value(value, secrets, marked, DEPTH, _Budget(sys.maxsize, sys.maxsize, sys.maxsize))

    def _value(self, value: Any, secrets: Collection[str], marked: Collection[str], depth: int, budget: _Budget) -> Any:
        budget.items -= 1
        if depth == 0 or budget.is_spent():
            return "..."
        if isinstance(value, str):
            return self._shown_text(value, secrets, budget)
        if value is None or isinstance(value, (bool, int, float)):
            return value if _has_json_form(value) else self._shown_text(_text(value), secrets, budget)
        if isinstance(value, dict):
            shown = {}
            for name, each in value.items():
                if budget.is_spent():
                    break
                is_hidden = name in marked or self.is_secret(str(name))
                key = self._shown_text(str(name), secrets, budget)
                shown[key] = HIDDEN if is_hidden else self._value(each, secrets, marked, depth - 1, budget)
            return shown
        if isinstance(value, (list, tuple)):
            return [self._value(each, secrets, marked, depth - 1, budget) for each in value[: max(budget.items, 0)]]
        plain = _plain(value)
        if plain is None:
            return f"<{type(value).__name__}>"
        return self._value(plain, secrets, marked, depth - 1, budget)

    def _shown_text(self, text: str, secrets: Collection[str], budget: _Budget) -> str:
        limit = min(budget.longest, max(budget.characters, 0))
        budget.characters -= min(len(text), limit)
        return self.text(text[:limit], secrets) + ("..." if len(text) > limit else "")

    def secrets_in(self, value: Any, marked: Collection[str] = ()) -> set[str]:
        """Return the texts and numbers in a JSON value that are secret, to be looked for elsewhere."""
        found: set[str] = set()
        self._collect(value, marked, False, DEPTH, [ITEMS], found)
        return found

    def _collect(
        self, value: Any, marked: Collection[str], is_secret: bool, depth: int, left: list[int], found: set[str]
    ) -> None:
        if isinstance(value, dict):
            pairs = [
                (each, is_secret or name in marked or self.is_secret(str(name)))
                for name, each in islice(value.items(), left[0])
            ]
        elif isinstance(value, (list, tuple)):
            pairs = [(each, is_secret) for each in value[: left[0]]]
        else:
            return
        for each, is_inside_secret in pairs:
            left[0] -= 1
            if depth == 0 or left[0] <= 0 or len(found) >= SECRETS:
                return
            if isinstance(each, (dict, list, tuple)):
                self._collect(each, marked, is_inside_secret, depth - 1, left, found)
            elif is_inside_secret and isinstance(each, (str, int, float)) and not isinstance(each, bool):
                text = str(each)[:LONGEST]
                if len(text) >= SHORTEST:
                    found.add(text)


def _has_json_form(number: float | None) -> bool:
    return number is None or (-(2**63) <= number < 2**64 if isinstance(number, int) else isfinite(number))


def _text(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return f"<{type(value).__name__}>"


def _plain(value: object) -> Any:
    """Return what stands for a value of a common class in JSON; None for what may hold anything."""
    if isinstance(value, SecretStr | SecretBytes):
        return HIDDEN
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime | date | time | timedelta):
        return msgspec.to_builtins(value)
    if isinstance(value, UUID | PurePath | Decimal):
        return str(value)
    if isinstance(value, Set):
        return sorted(islice(value, ITEMS), key=_order)
    if isinstance(value, Mapping):
        return dict(islice(value.items(), ITEMS))
    if isinstance(value, deque):
        return [*islice(value, ITEMS)]
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return None


def _order(value: object) -> tuple[str, str]:
    return type(value).__name__, str(value) if isinstance(value, str | int | float | UUID | PurePath) else ""


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
    return (found["scheme"] or "") + HIDDEN


def _without_user(found: re.Match[str]) -> str:
    """Hide who is named in front of an address' host: a password may stand there."""
    _, at, host = found[0].rpartition("@")
    return f"{HIDDEN}@{host}" if at else found[0]
