"""`MultiprocessMetrics`: metrics of several processes on one machine, added up.

Each process keeps its numbers in memory, and leaves a copy of them in a folder: every second, whenever its metrics
are read, and at its end. The process that is scraped adds the copies of the others to its own numbers. What ended
processes have counted stays: no counter ever goes backwards. What they measured (memory, calls in
flight) goes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core import ConfigurationError
from nexus_metrics.families import GAUGE, Distribution, Family, summed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

SECONDS = 1.0
"""How often a process leaves a copy of its numbers."""

ENDED = "ended.json"
"""What processes have counted that are there no more."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class MultiprocessMetrics:
    """This process among the processes that share a folder.

    A process holds a lock on its own file as long as it lives: the system gives it back however the process ends.

    Args:
        folder: The folder. What it holds when no process lives is thrown away.
        read: Returns this process's numbers now.

    Raises:
        ConfigurationError: The folder can't be written.
    """

    def __init__(self, folder: Path, read: Callable[[], list[Family]]) -> None:
        self._folder = folder
        self._read = read
        self._stopped = threading.Event()
        self._writing = threading.Lock()
        self._file = folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._tidy()
                self._own = self._file.with_suffix(".lock").open("wb")
                fcntl.flock(self._own, fcntl.LOCK_EX)
        except OSError as exc:
            raise ConfigurationError(f"metrics_multiprocess_dir: {folder} can't be written: {exc.strerror}.") from None
        self._failed = False
        threading.Thread(target=self._leave_copies, name="nexus-metrics-copies", daemon=True).start()

    def all(self, own: list[Family]) -> list[Family]:
        """Return the sum of what this process and the others have.

        Args:
            own: This process's numbers, which are left for the others too.
        """
        self._leave(own)
        others = [family for families in self._others() for family in families]
        return summed([*own, *others])

    def close(self, own: list[Family]) -> None:
        """Leave the last copy, and let go."""
        self._stopped.set()
        self._leave(own)
        self._own.close()

    def _leave_copies(self) -> None:
        while not self._stopped.wait(SECONDS):
            try:
                self._leave(self._read())
            except Exception:
                log.exception("metrics_multiprocess_dir: the metrics of this process can't be written")

    def _leave(self, families: list[Family]) -> None:
        """Write a copy, whole or not at all."""
        with self._writing:
            written = self._file.with_suffix(".new")
            try:
                written.write_bytes(_encode([_packed(family) for family in families]))
                written.replace(self._file)
                self._failed = False
            except OSError as exc:
                if not self._failed:
                    log.error("metrics_multiprocess_dir: %s can't be written: %s", written, exc.strerror)
                self._failed = True

    def _others(self) -> Iterator[list[Family]]:
        """Yield what each of the others has left."""
        with self._alone(fcntl.LOCK_SH):
            files = [self._folder / ENDED, *self._folder.glob("*-*.json")]
            for file in files:
                if file == self._file:
                    continue
                families = _read(file)
                if file.name == ENDED or not _is_alive(file):
                    families = [each for each in families if each.kind != GAUGE]
                yield families

    def _tidy(self) -> None:
        """Put what processes have counted that live no more into one file; forget it all where none lives."""
        ended = [file for file in self._folder.glob("*-*.json") if not _is_alive(file)]
        locks = list(self._folder.glob("*-*.lock"))
        if not any(_is_alive(lock.with_suffix(".json")) for lock in locks):
            (self._folder / ENDED).unlink(missing_ok=True)
        elif ended:
            counted = [family for file in [self._folder / ENDED, *ended] for family in _read(file)]
            kept = summed(family for family in counted if family.kind != GAUGE)
            written = self._folder / f"{ENDED}.new"
            written.write_bytes(_encode([_packed(family) for family in kept]))
            written.replace(self._folder / ENDED)
        for file in ended:
            file.unlink(missing_ok=True)
        for lock in locks:
            if not _is_alive(lock.with_suffix(".json")):
                lock.unlink(missing_ok=True)

    def _alone(self, kind: int = fcntl.LOCK_EX) -> _Locked:
        return _Locked(self._folder / "lock", kind)


class _Locked:
    """Holds a lock on the folder: to change which files there are, or to read them all."""

    def __init__(self, path: Path, kind: int) -> None:
        self._path = path
        self._kind = kind

    def __enter__(self) -> None:
        self._file = self._path.open("ab")
        fcntl.flock(self._file, self._kind)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _is_alive(file: Path) -> bool:
    """Whether the process that a file belongs to still holds its lock."""
    try:
        with file.with_suffix(".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _packed(family: Family) -> list[Any]:
    numbers = [[labels, number] for labels, number in family.numbers.items()]
    distributions = [[labels, found.bounds, found.counts, found.sum] for labels, found in family.distributions.items()]
    return [family.name, family.kind, family.description, family.labels, numbers, distributions]


def _read(file: Path) -> list[Family]:
    """Return what a file holds; what is not written by this program is left out."""
    try:
        packed = _decode(file.read_bytes())
    except (OSError, ValueError):
        return []
    found: list[Family] = []
    for each in packed if isinstance(packed, list) else ():
        with suppress(ValueError, TypeError):
            found.append(_unpacked(*each))
    return found


def _unpacked(
    name: str, kind: str, description: str, labels: list[str], numbers: list[Any], distributions: list[Any]
) -> Family:
    family = Family(str(name), str(kind), str(description), tuple(labels))
    family.numbers = {tuple(values): float(number) for values, number in numbers}
    for values, bounds, counts, total in distributions:
        distribution = Distribution(tuple(bounds))
        distribution.counts, distribution.sum = counts, float(total)
        family.distributions[tuple(values)] = distribution
    return family
