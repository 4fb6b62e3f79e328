"""`Logins`: the tokens of people who have logged in to servers, in a separate file.

A plugin's ``nexus login`` puts a login there; the command line takes its token for calls to that very server. When it
has expired, the hook ``nexus_renew_login(login) -> login | None`` is asked for another.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_core.errors import ConfigurationError
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MODE, FOLDER_MODE = 0o600, 0o700
LEEWAY = 5.0
"""Seconds before its end at which a token counts as expired: it has to arrive."""

_PORTS = {"http": 80, "https": 443}


def default_path() -> Path:
    """Return the file: in ``nexus`` under ``XDG_CONFIG_HOME`` or ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".config") / "nexus" / "logins.json"


class Logins:
    """Logins by server: mappings with ``access_token`` and ``expires_at`` (seconds since the epoch, or None).

    What else they have is the business of who put them there.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    def get(self, url: str) -> dict[str, Any] | None:
        """Return the login to a server, or None.

        Raises:
            ConfigurationError: The file is broken, or others can read it.
        """
        return self._read().get(server_of(url))

    def set(self, url: str, login: Mapping[str, Any]) -> None:
        """Keep a login to a server. Raises as `change` does."""
        self.change(url, lambda _: dict(login))

    def remove(self, url: str) -> bool:
        """Forget the login to a server. Returns whether there was one. Raises as `change` does."""
        was_there = self.get(url) is not None
        if was_there:
            self.change(url, lambda _: None)
        return was_there

    def change(
        self, url: str, change: Callable[[dict[str, Any] | None], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Put in the place of a login what ``change`` makes of it, and return that; None stands for no login.

        One process at a time does this: several that find a login expired renew it once.

        Raises:
            ConfigurationError: As for `get`; or the file can't be written, or there is no token in the login.
        """
        with self._locked():
            logins = self._read()
            before = logins.pop(server := server_of(url), None)
            login = change(None if before is None else dict(before))
            if login is not None:
                if not _is_login(login):
                    raise ConfigurationError("A login without an access_token can't be stored.")
                logins[server] = login
            if login != before:
                self._write(logins)
            return login

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as exc:
            raise self._unwritable(exc) from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            with self.path.open(encoding="utf-8") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as exc:
            raise self._broken(getattr(exc, "strerror", None) or "it is not text") from None
        if mode & ~MODE:
            raise ConfigurationError(f"{self._name} contains tokens and is readable by other users: chmod 600 it.")
        try:
            logins = json.loads(text)
        except (ValueError, RecursionError):
            raise self._broken("it is not JSON") from None
        if not isinstance(logins, dict) or not all(_is_login(each) for each in logins.values()):
            raise self._broken("it holds no logins")
        return logins

    def _write(self, logins: dict[str, dict[str, Any]]) -> None:
        """Replace the file whole: no reader sees half of it, and its mode is right from the first byte on."""
        try:
            number, name = tempfile.mkstemp(dir=self.path.parent, prefix=".logins-")
            try:
                with open(number, "w", encoding="utf-8") as file:
                    json.dump(logins, file, indent=1)
                os.replace(name, self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as exc:
            raise self._unwritable(exc) from None

    @property
    def _name(self) -> str:
        return printable(str(self.path), 300)

    def _broken(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self._name} can't be read: {why}. Remove it, and log in again.")

    def _unwritable(self, exc: OSError) -> ConfigurationError:
        return ConfigurationError(f"{self._name} can't be written: {exc.strerror}.")


def _is_login(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("access_token"), str)


def has_expired(login: Mapping[str, Any]) -> bool:
    """Whether a login's token is of no use any more, or will be when it arrives."""
    end = login.get("expires_at")
    return isinstance(end, (int, float)) and time.time() > end - LEEWAY


def server_of(url: str) -> str:
    """Return a server's name: scheme, host and port. A token for one is never sent to another.

    Raises:
        ConfigurationError: The URL names none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        host = None
    if not host:
        raise ConfigurationError(f"{printable(url, 200)!r} is not a URL such as http://127.0.0.1:8001.")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
