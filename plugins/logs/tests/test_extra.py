"""What is given as `extra`: it is shown as what it is, and replaces nothing that the record has itself."""

from __future__ import annotations

import asyncio
import enum
import io
import json
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nexus_logs.formatting import make_formatter
from nexus_toolkit.redaction import HIDDEN, Redactor
from pydantic import SecretStr

from nexus_core import Context

log = logging.getLogger("app")

OWN = [
    "level", "logger", "timestamp", "exception", "stack", "extra", "event", "run_id", "trace_id", "user_id",
    "workflow", "channel", "session_id", "tenant_id", "span_id", "call", "_record", "_from_structlog", "_given",
]  # fmt: skip


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


VALUES = [
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"), (date(2026, 1, 2), "2026-01-02"),
    (time(3, 4), "03:04:00"), (timedelta(seconds=90), "PT90S"), (Decimal("1.20"), "1.20"), (Colour.RED, "red"),
    (Level.HIGH, 3), (Path("/srv/a"), "/srv/a"), ({2, 1}, [1, 2]), (frozenset({"b", "a"}), ["a", "b"]),
    (ValueError("no such row"), "ValueError: no such row"),
    ([Colour.RED, {"at": date(2026, 1, 2)}], ["red", {"at": "2026-01-02"}]),
    (SecretStr("abc"), HIDDEN), (object(), "<object>"), (2**80, str(2**80)), (float("nan"), "nan"), ((1, 2), [1, 2]),
    (ValueError("password=abcdefgh"), f"ValueError: password={HIDDEN}"),
    (Path("/x?token=abcdefgh"), f"/x?token={HIDDEN}"),
]  # fmt: skip


def line_of(extra, message="told", log_format="json", exc_info=None):
    """Return what a record with `extra` comes out as."""
    record = logging.getLogger("fuzz").makeRecord("fuzz", 30, "f.py", 1, message, None, exc_info, extra=extra)
    return make_formatter(log_format, Redactor()).format(record)


@pytest.mark.parametrize(("value", "shown"), VALUES, ids=lambda each: type(each).__name__)
def test_values_are_shown_as_what_they_are(value, shown):
    assert json.loads(line_of({"given": value}))["given"] == shown


@pytest.mark.parametrize("name", OWN)
async def test_what_a_record_has_itself_stays(make, lines, name):
    nexus = make()

    @nexus.workflow
    def told(context: Context) -> str:
        log.warning("the message", extra={name: "forged"})
        return context.run_id

    async with nexus:
        run_id = (await nexus.invoke("told")).value
    (line,) = lines.of("app")
    assert (line["message"], line["level"], line["logger"]) == ("the message", "warning", "app")
    assert (line["run_id"], line["workflow"], line["channel"]) == (run_id, "told", "python")
    assert "forged" in (line.get(name), line.get("extra", {}).get(name))


def test_a_call_that_somebody_gives_is_none():
    assert json.loads(line_of({"call": {"verdict": "completed"}}))["call"] == {"verdict": "completed"}
    assert "call=" in line_of({"call": "mine"}, log_format="text")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20) | st.uuids()
    | st.datetimes() | st.timedeltas() | st.decimals()
    | st.sampled_from([Colour.RED, Level.HIGH, Path("a"), object(), KeyError("k")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    | st.frozensets(st.text(max_size=5), max_size=3),
    max_leaves=8,
)  # fmt: skip
RESERVED = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
NAMES = (st.sampled_from(OWN) | st.text(max_size=20)).filter(lambda name: name not in RESERVED)


@given(message=st.text(), extra=st.dictionaries(NAMES, ANY, max_size=5), fails=st.booleans())
@example(message="", extra={"exception": None}, fails=False)
@settings(max_examples=150)
def test_any_record_is_one_line_with_its_own_words(message, extra, fails):
    exc = ValueError("broken")
    text = line_of(extra, message, exc_info=(type(exc), exc, None) if fails else None)
    assert len(text.splitlines()) == 1
    line = json.loads(text)
    assert (line["level"], line["logger"]) == ("warning", "fuzz")
    assert line["timestamp"][:2] == "20"
    if not set("=:@") & set(message):  # nothing that looks like a secret
        shown = message.encode("utf-8", "backslashreplace").decode()
        assert line["message"] == shown
    assert ("broken" in line.get("exception", "")) is fails or not fails
    for name in extra:
        printable = name.encode("utf-8", "backslashreplace").decode()
        assert printable in line or printable in line["extra"] or not name.isascii()
    assert "\n" not in line_of(extra, message, log_format="text")


async def test_bound_functions_belong_to_the_run(make, lines):
    nexus = make()

    def tell(number):
        log.info("bound %d", number)
        return number

    @nexus.workflow
    def threads(context: Context) -> str:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(context.bind(tell), range(8))) == list(range(8))
        thread = threading.Thread(target=context.bind(tell), args=(8,))
        thread.start()
        thread.join()
        return context.run_id

    async with nexus:
        run_ids = await asyncio.gather(*(nexus.invoke("threads") for _ in range(2)))
    told = [line["run_id"] for line in lines.of("app")]
    assert sorted(told) == sorted([each.value for each in run_ids] * 9)


def test_the_stream_of_a_handler_gets_whole_lines():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(make_formatter("json", Redactor()))
    handler.handle(logging.makeLogRecord({"name": "a", "msg": "b", "event": "forged", "levelname": "INFO"}))
    assert json.loads(stream.getvalue())["message"] == "b"
