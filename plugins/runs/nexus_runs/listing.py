"""The queries of listings. Each is answered from an index however many runs there are.

Runs are listed newest first. An index per combination of owner and workflow has status, channel and time behind them.
Where no status or no channel is asked for, one query goes through each pair of them that occurs, for the newest of
each, and the newest of all these are the page: some twenty short walks in place of 2^4 indexes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nexus_core.runs.status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nexus_core.runs.record import RunFilter

FEW = 5000
"""Up to so many runs whose ids begin or end with a text are looked through."""

_LAST = chr(0x10FFFF)


class Query(NamedTuple):
    """A query and its arguments."""

    text: str
    arguments: list[Any]


class QueryBuilder:
    """Numbers the arguments of a query.

    Args:
        mark: What numbered arguments begin with: ``?`` for SQLite, ``$`` for PostgreSQL.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self.arguments: list[Any] = []

    def add(self, value: Any) -> str:
        """Add an argument and return what stands for it."""
        self.arguments.append(value)
        return f"{self._mark}{len(self.arguments)}"


def needs_pairs(wanted: RunFilter) -> bool:
    """Whether the pairs of status and channel have to be known, see `next_pair`."""
    is_all = wanted.owner is None and wanted.workflow is None and wanted.status is None and wanted.channel is None
    return not is_all and (wanted.status is None or wanted.channel is None)


def pairs_of(wanted: RunFilter, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]] | None:
    """Return the pairs of status and channel that a filter takes; None where it takes any run."""
    if not needs_pairs(wanted):
        return [(wanted.status, wanted.channel)] if wanted.status is not None and wanted.channel is not None else None
    fitting = [pair for pair in pairs if wanted.status in (None, pair[0]) and wanted.channel in (None, pair[1])]
    return [(RunStatus(status), channel) for status, channel in fitting]


def id_ranges(text: str) -> list[tuple[str, str, str]]:
    """Return where runs are found by a text: a column, and the range of its values."""
    reverse = text[::-1]
    return [("id", text, text + _LAST), ("id_reversed", reverse, reverse + _LAST)]


def page(wanted: RunFilter, pairs: Sequence[tuple[str, str]] | None, columns: str, builder: QueryBuilder) -> Query:
    """Return the query for a page.

    Args:
        wanted: The filter.
        pairs: See `pairs_of`; not empty.
        columns: What to select.
        builder: Numbers the arguments.
    """
    common = [*_equalities(wanted, builder), *_bounds(wanted, builder)]
    if wanted.text is not None:
        common.append(_has_text(wanted.text, builder))
    limit = builder.add(wanted.limit)
    if pairs is None:
        return _newest(_ordered(common, limit), columns, builder)
    walks = []
    for number, (status, channel) in enumerate(pairs):
        pair = [f"status = {builder.add(str(status))}", f"channel = {builder.add(channel)}"]
        walks.append(f"SELECT * FROM ({_ordered([*pair, *common], limit)}) AS walk{number}")
    merged = f"SELECT * FROM ({' UNION ALL '.join(walks)}) AS walks ORDER BY accepted_at DESC, id DESC LIMIT {limit}"
    return _newest(merged, columns, builder)


def page_of_text(wanted: RunFilter, columns: str, builder: QueryBuilder) -> Query:
    """Return the query for a page of runs whose ids begin or end with a text, where those are few."""
    assert wanted.text is not None
    conditions = [*_equalities(wanted, builder), *_status(wanted, builder), *_bounds(wanted, builder)]
    hits = " UNION ".join(
        f"SELECT n FROM runs WHERE {column} >= {builder.add(low)} AND {column} < {builder.add(high)}"
        for column, low, high in id_ranges(wanted.text)
    )
    names = ", ".join(f"runs.{name}" for name in columns.split(", "))
    return Query(
        f"SELECT {names} FROM ({hits}) AS hits CROSS JOIN runs WHERE {' AND '.join(['runs.n = hits.n', *conditions])}"
        f" ORDER BY accepted_at DESC, id DESC LIMIT {builder.add(wanted.limit)}",
        builder.arguments,
    )


def _newest(keys: str, columns: str, builder: QueryBuilder) -> Query:
    names = ", ".join(f"runs.{name}" for name in columns.split(", "))
    return Query(
        f"SELECT {names} FROM ({keys}) AS keys CROSS JOIN runs WHERE runs.n = keys.n"
        f" ORDER BY keys.accepted_at DESC, keys.id DESC",
        builder.arguments,
    )


def _ordered(conditions: list[str], limit: str) -> str:
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT n, accepted_at, id FROM runs{where} ORDER BY accepted_at DESC, id DESC LIMIT {limit}"


def _equalities(wanted: RunFilter, builder: QueryBuilder) -> list[str]:
    given = {"owner": wanted.owner, "workflow": wanted.workflow}
    return [f"{name} = {builder.add(value)}" for name, value in given.items() if value is not None]


def _status(wanted: RunFilter, builder: QueryBuilder) -> list[str]:
    given = {"status": wanted.status and str(wanted.status), "channel": wanted.channel}
    return [f"{name} = {builder.add(value)}" for name, value in given.items() if value is not None]


def _bounds(wanted: RunFilter, builder: QueryBuilder) -> list[str]:
    """Return the bounds of time: one upper bound only, since an index walk begins at one."""
    bounds, before = [], wanted.before
    if wanted.since is not None:
        bounds.append(f"accepted_at >= {builder.add(wanted.since)}")
    if before is not None and (wanted.until is None or before.accepted_at < wanted.until):
        bounds.append(f"(accepted_at, id) < ({builder.add(before.accepted_at)}, {builder.add(before.run_id)})")
    elif wanted.until is not None:
        bounds.append(f"accepted_at < {builder.add(wanted.until)}")
    return bounds


def _has_text(text: str, builder: QueryBuilder) -> str:
    ranges = [
        f"({column} >= {builder.add(low)} AND {column} < {builder.add(high)})" for column, low, high in id_ranges(text)
    ]
    return f"({' OR '.join(ranges)})"
