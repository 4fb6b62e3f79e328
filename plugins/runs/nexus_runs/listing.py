"""The queries of listings. Each is answered from an index however many runs there are.

Runs are listed newest first. An index per combination of owner and workflow has status, channel and time behind them.
Where no status or no channel is asked for, one query goes through each pair of them that occurs, for the newest of
each, and the newest of all these are the page: some twenty short walks in place of 2^4 indexes.

Runs are found by the end of their ids in an index of the last characters of each. They are random, and so each new run
would change another page of it: in SQLite, the index begins with the block of its table that a run is in. A look-up
goes through the blocks, some hundred of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nexus_core.runs.record import RunFilter

FEW = 5000
"""Up to so many runs whose ids begin or end with a text are looked through."""

_LAST = chr(0x10FFFF)

INDEXED = 8
"""So many characters at the end of ids are indexed: the fewest that a listing by text is given."""

BLOCKS = (
    "WITH RECURSIVE blocks (block) AS (SELECT min(n) >> 12 FROM runs UNION ALL SELECT block + 1 FROM blocks "
    "WHERE block < (SELECT max(n) >> 12 FROM runs)) SELECT block FROM blocks"
)
"""The blocks of SQLite's table of runs."""


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

    def ends_with(self, text: str) -> str:
        """Return the condition that an id ends with a text, as it is looked up in an index."""
        tail, whole = self.add(text[-INDEXED:]), self.add(text)
        if self._mark == "$":
            return f"right(id, {INDEXED}) = {tail} AND right(id, {len(text)}) = {whole}"
        end = f"substr(id, -{INDEXED}) = {tail} AND substr(id, -{len(text)}) = {whole}"
        return f"n >> 12 IN ({BLOCKS}) AND {end}"

    def add(self, value: Any) -> str:
        """Add an argument and return what stands for it."""
        self.arguments.append(value)
        return f"{self._mark}{len(self.arguments)}"


def needs_pairs(wanted: RunFilter) -> bool:
    """Whether the pairs of status and channel that occur have to be known."""
    return wanted.status is None or wanted.channel is None


def pairs_of(wanted: RunFilter, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of status and channel that a filter takes, out of the pairs that occur."""
    if wanted.status is not None and wanted.channel is not None:
        return [(wanted.status, wanted.channel)]
    return [pair for pair in pairs if wanted.status in (None, pair[0]) and wanted.channel in (None, pair[1])]


def ids_by(text: str, builder: QueryBuilder) -> list[str]:
    """Return the conditions that an id begins, and ends, with a text, as they are looked up in indexes."""
    return [f"id >= {builder.add(text)} AND id < {builder.add(text + _LAST)}", builder.ends_with(text)]


def count_by_text(text: str, builder: QueryBuilder) -> Query:
    """Return the query for how many ids begin, and how many end, with a text; no more than `FEW` and one are counted.

    Args:
        text: The text.
        builder: Numbers the arguments.
    """
    some = [f"SELECT 1 FROM runs WHERE {condition} LIMIT {FEW + 1}" for condition in ids_by(text, builder)]
    counts = [f"(SELECT count(*) FROM ({query}) AS found)" for query in some]
    return Query(f"SELECT {', '.join(counts)}", builder.arguments)


def page(wanted: RunFilter, pairs: Sequence[tuple[str, str]], columns: str, builder: QueryBuilder) -> Query:
    """Return the query for a page.

    Args:
        wanted: The filter.
        pairs: See `pairs_of`; not empty.
        columns: What to select.
        builder: Numbers the arguments.
    """
    common = [*_equalities(wanted, builder), *_bounds(wanted, builder)]
    if wanted.text is not None:
        text, length = builder.add(wanted.text), len(wanted.text)
        common.append(f"(substr(id, 1, {length}) = {text} OR substr(id, length(id) - {length - 1}) = {text})")
    limit = builder.add(wanted.limit)
    walks = []
    for number, (status, channel) in enumerate(pairs):
        conditions = [f"status = {builder.add(str(status))}", f"channel = {builder.add(channel)}", *common]
        walk = f"SELECT n, accepted_at, id FROM runs WHERE {' AND '.join(conditions)}"
        walks.append(f"SELECT * FROM ({walk} ORDER BY accepted_at DESC, id DESC LIMIT {limit}) AS walk{number}")
    newest = f"SELECT * FROM ({' UNION ALL '.join(walks)}) AS walks ORDER BY accepted_at DESC, id DESC LIMIT {limit}"
    names = ", ".join(f"runs.{name}" for name in columns.split(", "))
    return Query(
        f"SELECT {names} FROM ({newest}) AS keys CROSS JOIN runs WHERE runs.n = keys.n"
        f" ORDER BY keys.accepted_at DESC, keys.id DESC",
        builder.arguments,
    )


def page_of_text(wanted: RunFilter, columns: str, builder: QueryBuilder) -> Query:
    """Return the query for a page of runs whose ids begin or end with a text, where those are few."""
    assert wanted.text is not None
    conditions = [*_equalities(wanted, builder), *_status(wanted, builder), *_bounds(wanted, builder)]
    hits = " UNION ".join(f"SELECT n FROM runs WHERE {condition}" for condition in ids_by(wanted.text, builder))
    names = ", ".join(f"runs.{name}" for name in columns.split(", "))
    return Query(
        f"SELECT {names} FROM ({hits}) AS hits CROSS JOIN runs WHERE {' AND '.join(['runs.n = hits.n', *conditions])}"
        f" ORDER BY accepted_at DESC, id DESC LIMIT {builder.add(wanted.limit)}",
        builder.arguments,
    )


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
