"""What a text of JSON costs: its size alone decides, whatever its shape."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_core import MalformedRequest
from nexus_core.jsonshape import depth_and_weight, members_of
from nexus_core.jsontext import LARGE, MAX_DEPTH, encode, parse
from nexus_core.options.settings import CoreSettings

LARGEST: int = CoreSettings.model_fields["max_body_bytes"].default
SECONDS = 2.0
"""A bound that tells tenths of a second from hangs, on a machine that others use too."""

MEGABYTES = 400

SHAPES = {
    "nested": b"[" * 100 + b"]" * 100 + b",",
    "as deep as may be": b"[" * (MAX_DEPTH - 2) + b"]" * (MAX_DEPTH - 2) + b",",
    "empty arrays": b"[],",
    "empty objects": b"{},",
    "small objects": b'{"":0},',
    "objects with escapes": b'{"\\u0061":0},',
    "as many objects as are read": b'{"ab":12345678901},',
    "as many arrays as are read": b"[1,2],",
    "brackets in strings": b'"[",',
    "brackets in and around strings": b'"[[",[],',
    "huge floats": b"1e308,",
    "tiny floats": b"5e-324,",
    "floats between two others": b"1e23,",
    "floats out of nothing": b"1e-400,",
    "long floats": b"1." + b"3" * 767 + b"e-300,",
    "long integers": b"1" * 4300 + b",",
    "strings": b'"a",',
    "escaped quotes": b'"\\"",',
    "escapes": b'"\\u00e9",',
}


def _filled(unit: bytes, begin: bytes = b'{"text":[', end: bytes = b'0],"a":1}') -> bytes:
    return begin + unit * ((LARGEST - len(begin) - len(end)) // len(unit)) + end


def _cost(text: bytes) -> tuple[float, float]:
    """Return the seconds of this thread, and the megabytes, that it takes to read a text or to refuse it."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the highest use of memory is counted from here on
    before, begin = _peak(), time.thread_time()
    _outcome(text)
    return time.thread_time() - begin, _peak() - before


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_the_largest_body_takes_long_or_fills_memory(shape: str) -> None:
    seconds, megabytes = _cost(_filled(SHAPES[shape]))
    assert seconds < SECONDS
    assert megabytes < MEGABYTES


@pytest.mark.parametrize("unit", [b'"a":1,', b'"a":1,"b":[],'])
def test_duplicate_keys_by_the_hundred_thousand(unit: bytes) -> None:
    text = _filled(unit, b"{", b'"z":1}')
    with pytest.raises(MalformedRequest, match="twice"):
        parse(text)
    assert _cost(text)[0] < SECONDS


TOKENS = [b"[", b"]", b"{", b"}", b'"', b'""', b'"a"', b":", b",", b"1", b"1e308", b"0.5", b"\\", b'\\"', b"\\u0022",
          b" ", b"null", b"[],", b'{"":1},', b"1" * 300]  # fmt: skip


@settings(max_examples=10)
@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=12), st.sampled_from([b"[", b'{"a":[', b"", b'["']))
def test_whatever_is_repeated(unit: list[bytes], begin: bytes) -> None:
    text = _filled(b"".join(unit), begin, b"")
    seconds, megabytes = _cost(text)
    assert seconds < SECONDS
    assert megabytes < MEGABYTES


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()
    | st.text(alphabet='[]{}":\\', max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_large_texts_are_read_by_the_rules_of_small_ones(value: Any, ascii_only: bool) -> None:
    try:
        text = json.dumps(value, ensure_ascii=ascii_only).encode().replace(b"Infinity", b"1e999")
    except UnicodeEncodeError:
        return
    assert _outcome(text) == _outcome(text + b" " * LARGE)


@pytest.mark.parametrize(
    "text",
    [
        b"1e999", b"[1e300,-1e999]", b'{"null":null,"a":1e999}', b"1" + b"0" * 400 + b".5", b"1e300",
        b'{"a":1e5,"a":2}',
        b"1e5x", b'"\\ud8001e5"', b"[1e5", b"1" * 5000, b'["1e5","\\udc00"]', b"[1e5,01]",
        b"\xef\xbb\xbf1e5", b'["1e5\xff"]',
        b'{"\\u0022":1e5,"\\"":2}', b"[" * 200 + b"1e5" + b"]" * 200,
    ],
)  # fmt: skip
def test_what_is_refused_does_not_depend_on_the_size(text: bytes) -> None:
    assert _outcome(text) == _outcome(text + b" " * LARGE)


def _outcome(text: bytes) -> Any:
    try:
        return parse(text)
    except MalformedRequest as exc:
        return exc.message.isprintable() and len(exc.message) < 300 and type(exc)


@given(VALUES)
def test_shapes_are_counted_exactly(value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return
    depth, arrays, objects, members = _shape(value)
    assert depth_and_weight(text) == (depth, arrays + 3 * objects)
    assert members_of(text) == members


def _shape(value: Any) -> tuple[int, int, int, int]:
    if not isinstance(value, (list, dict)):
        return 0, 0, 0, 0
    inner = [_shape(each) for each in (value.values() if isinstance(value, dict) else value)]
    totals = [sum(column) for column in zip(*inner, strict=True)] or [0, 0, 0, 0]
    is_object = isinstance(value, dict)
    return (
        1 + max((each[0] for each in inner), default=0),
        totals[1] + (not is_object),
        totals[2] + is_object,
        totals[3] + (len(value) if is_object else 0),
    )


def test_results_with_many_nulls_are_written_as_fast() -> None:
    value = {"x": [None] * 800_000}
    begin = time.thread_time()
    assert encode(value).count(b"null") == 800_000
    assert time.thread_time() - begin < SECONDS
