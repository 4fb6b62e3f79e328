"""The options that hold for every command. They may stand before or after it, and each has its environment variable.

Standard library only: ``nexus --help`` comes through here.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

SHORTEST, LONGEST = 0.001, 31_536_000.0
"""Bounds of ``--timeout`` in seconds: a millisecond and a year, as `nexus_core.options.sources.MAX_SECONDS` has it."""

RETRY_SECONDS = 60.0
"""How long one who follows events waits for a server that has gone, unless ``--retry`` says otherwise."""


INTERRUPTED = 130
"""Exit code of a command that Ctrl-C or a cancellation has ended."""


class UsageError(Exception):
    """The command line can't be understood. Exit code 2."""


@dataclass(frozen=True, slots=True)
class Options:
    """What every command knows.

    Attributes:
        app: ``module:attribute`` or ``path.py:attribute``: the application to load in process.
        connect: The URL of a running server's CLI port, in place of an application.
        session: The session that calls belong to.
        token: The caller's credential.
        json: JSON on a terminal too.
        timeout: Seconds that a call may take.
        debug: Show logs and tracebacks.
        idempotency_key: The key of one call, see `EXECUTE`.
        silence: Seconds after which a server that says nothing during one call is given up; None for never.
    """

    app: str | None = None
    connect: str | None = None
    session: str | None = None
    token: str | None = None
    json: bool = False
    timeout: float | None = None
    debug: bool = False
    idempotency_key: str | None = None
    silence: float | None = None


VALUES = {
    "--app": ("app", "MODULE:ATTR", "Application to load in process; also FILE.py:ATTR.", "NEXUS_APP"),
    "--connect": ("connect", "URL", "A running server's command-line port, in place of --app.", "NEXUS_CONNECT"),
    "--session": ("session", "ID", "Session that the call belongs to.", "NEXUS_SESSION"),
    "--token": ("token", "TOKEN", "Credential: a token, or 'SCHEME CREDENTIAL'.", "NEXUS_TOKEN"),
    "--timeout": ("timeout", "SECONDS", "Give up a call after that long.", ""),
}
"""The options that take a value: attribute, placeholder, help, environment variable."""

FLAGS = {
    "--json": ("json", "JSON output, on a terminal too."),
    "--debug": ("debug", "Show logs and tracebacks."),
}
"""The options that take none: attribute, help."""

NAMES = frozenset({*VALUES, *FLAGS})

EXECUTE = {
    "--data": ("JSON", "All parameters as a JSON object; @FILE reads a file, - reads stdin."),
    "--wait": ("SECONDS", "Leave the run behind on the server if it takes longer (with --connect)."),
    "--idempotency-key": ("KEY", "Makes a repeat safe: it is answered as the first call with this key was."),
}
"""What ``execute`` takes beside the common options: placeholder, help. Fields of the same names need ``--data``."""


def from_environment() -> Options:
    """Return the options that the environment sets."""
    found = {attribute: os.environ[name] for attribute, _, _, name in VALUES.values() if os.environ.get(name)}
    return Options(**found)  # type: ignore[arg-type]


def take(arguments: list[str], base: Options) -> tuple[Options, list[str]]:
    """Split a command line into the options of this module and the rest. What follows ``--`` is the rest.

    An application named in the arguments comes before a connection that the environment names, and the other way round.

    Raises:
        UsageError: An option lacks its value, or has a wrong one.
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
            given[VALUES[name][0]] = seconds(name, value, SHORTEST, LONGEST) if name == "--timeout" else value
        elif word in FLAGS:
            given[FLAGS[word][0]] = True
        else:
            rest.append(word)
    if "app" in given and "connect" in given:
        raise UsageError("Give either --app or --connect, not both.")
    if "app" in given:
        base = replace(base, connect=None)
    elif "connect" in given:
        base = replace(base, app=None)
    return replace(base, **given), rest


def seconds(option: str, text: str, low: float, high: float) -> float:
    """Return an option's value as a number of seconds.

    Raises:
        UsageError: It is none, or out of bounds.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:  # nor is NaN
        raise UsageError(f"Option {option} needs a number of seconds from {low:g} to {high:.0f}.")
    return number


def as_utf8(text: str) -> str:
    """Return text that was read in another encoding as the UTF-8 it is, if it is some.

    Where the locale is not UTF-8, Python leaves the bytes that the locale does not have as they are.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        with suppress(UnicodeError):
            return os.fsencode(text).decode()
    return text
