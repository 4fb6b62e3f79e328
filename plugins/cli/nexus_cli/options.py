"""The common options. They may stand before or after the command.

Standard library only: ``nexus --help`` comes through here.
"""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

SHORTEST, LONGEST = 0.001, 31_536_000.0
"""Bounds of ``--timeout`` in seconds: a millisecond and a year, as `nexus_core.options.settings.MAX_SECONDS` has it."""

RETRY_SECONDS = 60.0
"""Default of ``--retry``: seconds to reconnect to a server that is lost."""


INTERRUPTED = 130
"""Exit code of a command that Ctrl-C or a cancellation has ended."""


class UsageError(Exception):
    """The command line is not valid. Exit code 2."""


@dataclass(frozen=True, slots=True)
class Options:
    """The values of the common options.

    Attributes:
        app: ``module:attribute`` or ``path.py:attribute``: the application to load in process.
        connect: The URL of a running server's CLI port, in place of an application.
        session: The session that calls belong to.
        token: The caller's credential.
        json: JSON on a terminal too.
        timeout: Time limit of a call in seconds.
        debug: Show logs and tracebacks.
        idempotency_key: The key of one call, see `EXECUTE`.
        headers: Further headers of the calls' requests, names in lower case.
        silence: Seconds without a heartbeat after which a call is given up; None for never.
    """

    app: str | None = None
    connect: str | None = None
    session: str | None = None
    token: str | None = None
    json: bool = False
    timeout: float | None = None
    debug: bool = False
    idempotency_key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    silence: float | None = None


VALUES = {
    "--app": ("app", "MODULE:ATTR", "Application to load in this process; also FILE.py:ATTR.", "NEXUS_APP"),
    "--connect": ("connect", "URL", "Command-line port of a running server, in place of --app.", "NEXUS_CONNECT"),
    "--session": ("session", "ID", "Session of the calls.", "NEXUS_SESSION"),
    "--token": ("token", "TOKEN", "Credential: a token, or 'SCHEME CREDENTIAL'.", "NEXUS_TOKEN"),
    "--timeout": ("timeout", "SECONDS", "Time limit of a call.", ""),
    "--header": ("headers", "'NAME: VALUE'", "HTTP header to send with each call; may be repeated.", ""),
}
"""The options that take a value: attribute, placeholder, help, environment variable."""

FLAGS = {
    "--json": ("json", "Write JSON, on a terminal too."),
    "--debug": ("debug", "Show logs and tracebacks."),
}
"""The options without a value: attribute, help."""

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\x20-\x7e]*)")
_OWN_HEADERS = frozenset({
    "accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type",
    "expect", "host", "idempotency-key", "te", "trailer", "transfer-encoding", "upgrade", "x-nexus-session",
})  # fmt: skip
"""Headers that the command line sets itself: with options, or to send a request at all."""

NAMES = frozenset({*VALUES, *FLAGS})

EXECUTE = {
    "--data": ("JSON", "All parameters as a JSON object; @FILE reads a file, - reads stdin."),
    "--wait": ("SECONDS", "Return the run id if the run takes longer (with --connect)."),
    "--idempotency-key": ("KEY", "Idempotency key: a repeat with the same key returns the first result."),
}
"""Further options of ``execute``: placeholder, help. Fields of the same names need ``--data``."""


def from_environment() -> Options:
    """Return the options in environment variables."""
    found = {attribute: os.environ[name] for attribute, _, _, name in VALUES.values() if os.environ.get(name)}
    return Options(**found)  # type: ignore[arg-type]


def take(arguments: list[str], base: Options) -> tuple[Options, list[str]]:
    """Split a command line into the common options and the rest, such as everything after ``--``.

    ``--app`` overrides NEXUS_CONNECT, and ``--connect`` overrides NEXUS_APP.

    Raises:
        UsageError: The value of an option is missing or invalid.
    """
    given: dict[str, Any] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif name in VALUES:
            if not equals and (value := next(words, "")) == "":
                raise UsageError(f"Option {name} needs a value.")
            given[VALUES[name][0]] = _value(name, value, given.get("headers", base.headers))
        elif word in FLAGS:
            given[FLAGS[word][0]] = True
        else:
            rest.append(word)
    if "app" in given and "connect" in given:
        raise UsageError("--app and --connect exclude each other.")
    if "app" in given:
        base = replace(base, connect=None)
    elif "connect" in given:
        base = replace(base, app=None)
    return replace(base, **given), rest


def _value(name: str, text: str, headers: dict[str, str]) -> Any:
    """Return the value of an option; of ``--header``, the headers with one more."""
    if name == "--timeout":
        return seconds(name, text, SHORTEST, LONGEST)
    return {**headers, **_header(text)} if name == "--header" else text


def _header(text: str) -> dict[str, str]:
    found = _HEADER.fullmatch(text)
    if found is None:
        raise UsageError("Option --header needs 'NAME: VALUE', in characters that HTTP allows.")
    name = found[1].lower()
    if name in _OWN_HEADERS:
        raise UsageError(f"Option --header can't set {name}: --token, --session and --idempotency-key set theirs.")
    return {name: found[2].strip()}


def seconds(option: str, text: str, low: float, high: float) -> float:
    """Return an option's value as a number of seconds.

    Raises:
        UsageError: It is not a number, or out of bounds.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:  # false for NaN too
        raise UsageError(f"Option {option} needs a number of seconds from {low:g} to {high:.0f}.")
    return number


def as_utf8(text: str) -> str:
    """Return text decoded as UTF-8, if Python has decoded it in the locale's other encoding.

    Python keeps bytes that are invalid in the locale's encoding as surrogates.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        with suppress(UnicodeError):
            return os.fsencode(text).decode()
    return text
