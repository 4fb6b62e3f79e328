"""`Times`: when a schedule is due. Instants are seconds since the epoch."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from nexus_core.errors import ConfigurationError

FIELDS = 5
SPREAD = 3 * 3600
"""Seconds; more than clocks are set back by when daylight saving time ends."""


class Times:
    """The times of a cron expression in a zone.

    Where both minute and hour are fixed (neither begins with ``*``), a time that does not exist on a day is due at the
    first moment after, and one that comes twice is due the first time. Otherwise the expression is an interval: it goes
    on through a change of the clocks.

    Args:
        expression: Five fields: minute, hour, day of month, month, day of week.
        timezone: The name of the zone.

    Raises:
        ConfigurationError: The expression is wrong or never due, or the zone is unknown.
    """

    def __init__(self, expression: str, timezone: str) -> None:
        self.expression = expression
        self.zone = _zone(timezone)
        if len(expression.split()) != FIELDS:
            raise ConfigurationError(
                f"the expression {expression!r} must have five fields: minute, hour, day of month, month and day of "
                "week; more than once a minute is not possible."
            )
        try:
            next(CronSim(expression, datetime.now(self.zone)))
        except CronSimError as exc:
            raise ConfigurationError(f"the expression {expression!r} is wrong: {str(exc).lower()}.") from None
        except StopIteration:
            raise ConfigurationError(f"the expression {expression!r} is never due.") from None

    def after(self, instant: float) -> float:
        """Return the first time after an instant.

        Raises:
            OverflowError: It is not due within 50 years.
        """
        for due in CronSim(self.expression, datetime.fromtimestamp(instant, self.zone)):
            if (found := due.timestamp()) > instant:
                return found
        raise OverflowError(f"{self.expression!r} is not due within 50 years")

    def between(self, after: float, until: float, limit: int) -> list[float]:
        """Return the latest times after an instant and not after another, in order, at most ``limit``."""
        found: set[float] = set()
        start = datetime.fromtimestamp(until + SPREAD, self.zone)
        for due in CronSim(self.expression, start, reverse=True):
            instant = due.timestamp()
            if instant <= after - SPREAD or (instant <= after and len(found) >= limit) or len(found) > limit:
                break
            if after < instant <= until:
                found.add(instant)
        return sorted(found)[-limit:]

    def shown(self, instant: float) -> str:
        """Return an instant in the zone, as ISO 8601."""
        return datetime.fromtimestamp(instant, self.zone).isoformat()


def utc(instant: float) -> str:
    """Return an instant in UTC, as ISO 8601."""
    return datetime.fromtimestamp(instant, UTC).isoformat().replace("+00:00", "Z")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, available_timezones(), 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "; zones are named as in Europe/Zurich."
        raise ConfigurationError(f"there is no time zone {name!r}{hint}") from None
