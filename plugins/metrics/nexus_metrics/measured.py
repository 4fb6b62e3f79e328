"""`Measured`: reads measurements, and waits for none that hangs."""

from __future__ import annotations

import math
import threading
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from nexus_metrics.families import Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nexus_core.types.measurement import Measurement

READ_SECONDS = 1.0
"""How long one measurement may take."""

MAX_NUMBERS = 10_000
"""How many numbers one may have."""


class Measured:
    """Reads measurements in a thread, so that one that hangs is left out, and not read again before it has come back.

    Args:
        complain: Told what is wrong with a measurement.
    """

    def __init__(self, complain: Callable[[str, BaseException | None], None]) -> None:
        self._complain = complain
        self._hanging: set[str] = set()

    def families(self, measurements: Sequence[Measurement]) -> list[Family]:
        """Return what can be read. It may wait: call it in a thread."""
        found: list[Family] = []
        left = iter([each for each in measurements if each.name not in self._hanging])
        while (hangs := self._read(left, found)) is not None:
            self._complain(f"The measurement {hangs} did not come back within {READ_SECONDS:g} s: it is left out", None)
        return found

    def _read(self, left: Iterator[Measurement], found: list[Family]) -> str | None:
        """Read one after the other. Returns the name of the one that hangs, if one does."""
        reading = _Reading(left, self._failed)
        thread = threading.Thread(target=reading.work, name="nexus-metrics-read", daemon=True)
        thread.start()
        while True:
            thread.join(READ_SECONDS)
            with reading.lock:
                if not thread.is_alive() or reading.current is None:
                    found += reading.families
                    return None
                if time.monotonic() - reading.since >= READ_SECONDS:
                    found += reading.families
                    name = reading.current
                    reading.abandoned = partial(self._hanging.discard, name)
                    self._hanging.add(name)
                    return name

    def _failed(self, name: str, exc: BaseException) -> None:
        self._complain(f"The measurement {name} can't be read", exc)


class _Reading:
    """A thread's way through measurements."""

    def __init__(self, left: Iterator[Measurement], failed: Callable[[str, BaseException], None]) -> None:
        self.lock = threading.Lock()
        self.families: list[Family] = []
        self.current: str | None = ""
        self.since = time.monotonic()
        self.abandoned: Callable[[], None] | None = None
        self._left = left
        self._failed = failed

    def work(self) -> None:
        while (measurement := self._next()) is not None:
            family: Family | None = None
            try:
                family = _family(measurement)
            except BaseException as exc:  # not even SystemExit is anybody else's business
                self._failed(measurement.name, exc)
            with self.lock:
                if self.abandoned is not None:
                    self.abandoned()
                    return
                if family is not None:
                    self.families.append(family)

    def _next(self) -> Measurement | None:
        with self.lock:
            measurement = next(self._left, None)
            self.current = None if measurement is None else measurement.name
            self.since = time.monotonic()
            return measurement


def _family(measurement: Measurement) -> Family:
    given: Iterable[tuple[tuple[str, ...], float]] = islice(measurement.read(), MAX_NUMBERS + 1)
    numbers = {tuple(str(each) for each in labels): float(number) for labels, number in given}
    if len(numbers) > MAX_NUMBERS:
        raise ValueError(f"it has more than {MAX_NUMBERS} numbers")
    if any(len(labels) != len(measurement.labels) for labels in numbers):
        raise ValueError(f"its labels are {', '.join(measurement.labels) or 'none'}")
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("one of its numbers is not finite")
    return Family(measurement.name, measurement.kind, measurement.description, tuple(measurement.labels), numbers)
