from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_core import MalformedRequest
from nexus_core.jsontext import MAX_DEPTH, encode, parse, parse_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_as_json_reads_it(value: Any, ascii_only: bool) -> None:
    try:
        text = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    assert parse(text) == json.loads(text)


def _pairs(keys: list[str]) -> bytes:
    return ("{" + ",".join(f"{json.dumps(key)}:1" for key in keys) + "}").encode()


@given(st.lists(st.text(alphabet='ab":\\\u00e9\n', max_size=3), max_size=6))
def test_duplicate_keys_are_refused_however_they_are_written(keys: list[str]) -> None:
    text = _pairs(keys)
    if len(set(keys)) == len(keys):
        assert parse(text) == json.loads(text)
    else:
        with pytest.raises(MalformedRequest, match="twice"):
            parse(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '[{"b":{"a":1,"a":1}}]', '{"a":"\\u0022\\u003a","a":1}',
        '{"\\u0022":1,"\\"":2}', '{"a":{}, "a":[]}', '{"x":"\\u0022\\u0022\\u003a\\u0022","y":0,"y":"z"}',
    ],
)  # fmt: skip
def test_duplicates_hidden_behind_escapes(text: str) -> None:
    with pytest.raises(MalformedRequest, match="twice"):
        parse(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        b"NaN", b"Infinity", b"-Infinity", b"1e999", b'"\\ud800"', b'"\\udc00\\ud800"', b"1" * 5000, b"{", b"", b"{}x",
        b"\xff", b'"\xed\xa0\x80"', b"'a'", b"{a:1}", b"[1,]", b"01", b"\x00", b'"\n"', b"tru",
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused_in_one_printable_sentence(text: bytes) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse(text)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_is_bounded_exactly(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    inner = "1"

    def nested(depth: int) -> bytes:
        return (opening * depth + inner + closing * depth).encode()

    parse(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 900, 100_000):
        with pytest.raises(MalformedRequest, match=str(MAX_DEPTH)):
            parse(nested(depth))


@settings(max_examples=50)
@given(st.integers(1, 200), st.text(alphabet='[]{}"\\', max_size=20))
def test_brackets_in_strings_do_not_count_as_depth(depth: int, noise: str) -> None:
    text = ("[" * depth + json.dumps([noise] * 150) + "]" * depth).encode()
    if depth + 1 <= MAX_DEPTH:
        parse(text)
    else:
        with pytest.raises(MalformedRequest):
            parse(text)


def test_objects_are_asked_for() -> None:
    assert parse_object(b"  ") == {}
    for text, kind in ((b"[]", "array"), (b"1", "integer"), (b"null", "null"), (b'"a"', "string")):
        with pytest.raises(MalformedRequest, match=kind):
            parse_object(text)


@pytest.mark.parametrize("text", [b"{", b"[" * 200 + b"]" * 200, b"[" * 100_000, b'{"a": 1, "a": 2}', b"[]"])
def test_messages_name_what_was_read(text: bytes) -> None:
    for what, named in ((), "The body "), (("message",), "The message "):
        with pytest.raises(MalformedRequest) as caught:
            parse_object(text, *what)
        assert caught.value.message.startswith(named)


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, {"a": [1, -math.inf]}, [None, {"x": math.nan}], {1: {2: math.nan}}]
)
def test_results_with_numbers_that_json_lacks_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="not finite"):
        encode(bad)


def test_results_that_have_no_json_form_are_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for bad in (object(), loop, {"a": lambda: 1}, "\ud800"):
        with pytest.raises((TypeError, ValueError)):
            encode(bad)


def test_none_is_not_mistaken_for_a_number() -> None:
    assert encode({"a": None, "b": [None, 1.5]}) == b'{"a":null,"b":[null,1.5]}'
