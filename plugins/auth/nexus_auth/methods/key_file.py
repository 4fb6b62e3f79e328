"""`KeyFile`: the file with API keys. It is replaced atomically: no reader ever sees half a change."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from nexus_auth.methods.api_keys import ApiKey
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODE = 0o600
_VERSION = 1


class KeyFile:
    """The keys in a file.

    Args:
        path: The file. It need not exist.
        administers: Whether it is read to be changed, which root may do for another user. For authentication, the file
            must belong to the current user or to root.
    """

    def __init__(self, path: Path, *, administers: bool = False) -> None:
        self.path = path.expanduser()
        self._administers = administers and os.geteuid() == 0

    def signature(self) -> tuple[int, ...]:
        """Return a value that changes whenever the file does; empty if it can't be read."""
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_ctime_ns, found.st_size

    def read(self) -> list[ApiKey]:
        """Return the keys.

        Raises:
            ConfigurationError: The file can't be read, is not a key file, or others can write to it.
        """
        try:
            with self.path.open(encoding="utf-8") as file:
                self._check_owner(os.fstat(file.fileno()))
                text = file.read()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "not UTF-8 text"
            raise ConfigurationError(f"api_key_file: {self.path} can't be read: {reason}.") from None
        try:
            content = json.loads(text, parse_constant=_refuse)
            if content["version"] != _VERSION or not isinstance(content["keys"], list):
                raise TypeError(f"not a list of keys of version {_VERSION}")
            return [ApiKey.of(each) for each in content["keys"]]
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise ConfigurationError(f"api_key_file: {self.path} is not a valid key file: {exc}.") from None

    def _check_owner(self, found: os.stat_result) -> None:
        """Refuse a file that another user could add keys to."""
        if found.st_mode & stat.S_IWOTH:
            raise ConfigurationError(f"api_key_file: {self.path} is writable by every user: chmod 600 it.")
        if found.st_uid not in (0, os.geteuid()) and not self._administers:
            raise ConfigurationError(
                f"api_key_file: {self.path} belongs to another user (uid {found.st_uid}) than this process "
                f"(uid {os.geteuid()}). Change its owner with chown."
            )

    def add(self, key: ApiKey) -> None:
        """Add a key."""
        with self._locked():
            self._write([*self.read(), key])

    def revoke(self, key_id: str) -> ApiKey | None:
        """Revoke a key and return it; None if there is no key with this id."""
        with self._locked():
            keys = self.read()
            found = next((key for key in keys if key.id == key_id), None)
            if found is None or found.revoked_at is not None:
                return found
            revoked = replace(found, revoked_at=time.time())
            self._write([revoked if key is found else key for key in keys])
            return revoked

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other writers, also in other processes. The lock is a separate file, because this one is replaced."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        except OSError as exc:
            raise ConfigurationError(f"api_key_file: {self.path} can't be written: {exc.strerror}.") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, keys: list[ApiKey]) -> None:
        text = json.dumps({"version": _VERSION, "keys": [key.to_dict() for key in keys]}, indent=1)
        try:
            write_private(self.path, text + "\n")
        except OSError as exc:
            raise ConfigurationError(f"api_key_file: {self.path} can't be written: {exc.strerror}.") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically and durably.

    A new file is readable by its owner only; an existing file keeps its owner and mode.
    """
    path = path.resolve()  # a symbolic link stays
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if path.exists():
                _copy_owner(handle, path.stat())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _copy_owner(handle: int, older: os.stat_result) -> None:
    """Set the owner and the mode of a new file to those of the file that it replaces."""
    with suppress(PermissionError):  # only root can; any other user owns the file, or may replace it
        os.fchown(handle, older.st_uid, older.st_gid)
    os.fchmod(handle, stat.S_IMODE(older.st_mode))
