"""`KeyFile`: the file that API keys are kept in. It is replaced whole: no reader ever sees half a change."""

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

from nexus_auth.api_keys import ApiKey
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
        administers: Whether it is read to be changed: root may do that for another user, whose it stays. To let callers
            in by it is another thing.
    """

    def __init__(self, path: Path, *, administers: bool = False) -> None:
        self.path = path.expanduser()
        self._administers = administers and os.geteuid() == 0

    def signature(self) -> tuple[int, ...]:
        """Return what changes whenever the file does; nothing where it can't be seen."""
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_ctime_ns, found.st_size

    def read(self) -> list[ApiKey]:
        """Return the keys.

        Raises:
            ConfigurationError: The file can't be read, holds something else, or others can write to it.
        """
        try:
            with self.path.open(encoding="utf-8") as file:
                self._refuse_strangers(os.fstat(file.fileno()))
                text = file.read()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not text"
            raise ConfigurationError(f"api_key_file: {self.path} can't be read: {reason}.") from None
        try:
            content = json.loads(text, parse_constant=_refuse)
            if content["version"] != _VERSION or not isinstance(content["keys"], list):
                raise TypeError(f"it is no list of keys of version {_VERSION}")
            return [ApiKey.of(each) for each in content["keys"]]
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise ConfigurationError(f"api_key_file: {self.path} holds no API keys: {exc}.") from None

    def _refuse_strangers(self, found: os.stat_result) -> None:
        """Whoever can write to the file can let in anybody."""
        if found.st_mode & stat.S_IWOTH:
            raise ConfigurationError(f"api_key_file: everybody may write to {self.path}: chmod 600 it.")
        if found.st_uid not in (0, os.geteuid()) and not self._administers:
            raise ConfigurationError(
                f"api_key_file: {self.path} belongs to another user (uid {found.st_uid}), not to uid {os.geteuid()} "
                "that runs this: chown it."
            )

    def add(self, key: ApiKey) -> None:
        """Put a key there."""
        with self._alone():
            self._write([*self.read(), key])

    def revoke(self, key_id: str) -> ApiKey | None:
        """Make a key useless from now on, and return it; None where there is none of that id."""
        with self._alone():
            keys = self.read()
            found = next((key for key in keys if key.id == key_id), None)
            if found is None or found.revoked_at is not None:
                return found
            revoked = replace(found, revoked_at=time.time())
            self._write([revoked if key is found else key for key in keys])
            return revoked

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other writers out, in whatever process: the lock is a file of its own, since this one is replaced."""
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
    raise ValueError(f"{constant} is no number")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step and for good, even when the machine fails right after.

    A new one can be read by its owner only; an older one's owner and mode are kept.
    """
    path = path.resolve()  # where it is a link, the link stays
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if path.exists():
                _take_after(handle, path.stat())
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


def _take_after(handle: int, older: os.stat_result) -> None:
    """Give a new file the owner and the mode of the one that it replaces."""
    with suppress(PermissionError):  # only root can: whoever else writes here owns the file, or may replace it
        os.fchown(handle, older.st_uid, older.st_gid)
    os.fchmod(handle, stat.S_IMODE(older.st_mode))
