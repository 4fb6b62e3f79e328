"""`MeasurementReader`: reads measurements within a time limit."""

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
"""Time limit of a measurement."""

MAX_NUMBERS = 10_000
"""Maximum values of a measurement."""


class MeasurementReader:
    """Reads measurements in a thread. One that hangs is skipped, and not read again before it has returned.

    Args:
        report: Called with a message for a measurement that fails.
    """

    def __init__(self, report: Callable[[str, BaseException | None], None]) -> None:
        self._report = report
        self._hanging: set[str] = set()

    def families(self, measurements: Sequence[Measurement]) -> list[Family]:
        """Return the measurements that can be read. It blocks: call it in a thread."""
        found: list[Family] = []
        left = iter([each for each in measurements if each.name not in self._hanging])
        while (hangs := self._read(left, found)) is not None:
            self._report(f"The measurement {hangs} did not return within {READ_SECONDS:g} s: it is skipped", None)
        return found

    def _read(self, left: Iterator[Measurement], found: list[Family]) -> str | None:
        """Read measurements in order. Returns the name of one that hangs, or None."""
        reading = _ReadingThread(left, self._failed)
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
        self._report(f"The measurement {name} can't be read", exc)


class _ReadingThread:
    """The work of one thread, and its progress."""

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
            except BaseException as exc:  # SystemExit included
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
        raise ValueError(f"it has more than {MAX_NUMBERS} values")
    if any(len(labels) != len(measurement.labels) for labels in numbers):
        raise ValueError(f"its labels are {', '.join(measurement.labels) or 'none'}")
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("a value is not finite")
    return Family(measurement.name, measurement.kind, measurement.description, tuple(measurement.labels), numbers)
