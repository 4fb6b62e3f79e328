"""JSON as every channel reads and writes it: strict, bounded in depth, the same rules at each door.

Refused on the way in: NaN and Infinity, duplicate keys, lone surrogates, numbers out of range, nesting deeper than
`MAX_DEPTH`. RFC 8259 leaves most of these open; two readers that disagree about them are how a check in one place
is bypassed in another. Time and memory grow with the size of a text and with nothing else: see `nexus_core.jsonshape`.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from itertools import chain
from pathlib import PurePath
from typing import Any

import msgspec

from nexus_core.errors import MalformedRequest
from nexus_core.jsonshape import (
    BYTES_PER_ARRAY,
    depth_and_weight,
    has_costly_numbers,
    may_overflow,
    members_of,
    most_arrays,
)

log = logging.getLogger(__name__)

MAX_DEPTH = 128
"""Levels of nested arrays and objects that are read and written (serde_json's limit)."""

_NOT_FOR_PYDANTIC = (Iterator, complex, tuple, frozenset, bool, type(None))
"""An iterator might never end, a complex number is no text; the others are keys of a mapping, which JSON lacks."""

_decode = msgspec.json.Decoder().decode
LARGE = 4096
"""Bytes from which the kind of text decides how it is read; below, none takes long."""

_NAMES_IN_ERRORS = 256 * 1024
"""Bytes of a text that is read once more, in Python, to name the key that is there twice."""


def parse(text: bytes, what: str = "body") -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text.
        what: What the caller knows the text as, for messages.

    Raises:
        MalformedRequest: The text is not JSON, or breaks one of this module's rules. The message says which.
    """
    is_large = len(text) > LARGE
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        _check_brackets(text, what)
    try:
        value = _decode_large(text) if is_large else _decode(text)
    except (msgspec.DecodeError, ValueError) as exc:
        raise MalformedRequest(f"The {what} is not valid JSON: {_reason(text, exc)}") from None
    except RecursionError:
        raise _too_deep(what) from None
    colons = text.count(b":")
    if colons > 1 and (is_large or not _looks_the_same(text, value, colons)):
        _refuse_duplicate_keys(text, value, what)
    return value


def _check_brackets(text: bytes, what: str) -> None:
    depth, weight = depth_and_weight(text)
    if weight > most_arrays(text):
        raise MalformedRequest(
            f"The {what} contains too many arrays and objects: at most one array in {BYTES_PER_ARRAY} bytes, "
            f"one object in {3 * BYTES_PER_ARRAY}."
        )
    if depth > MAX_DEPTH:
        raise _too_deep(what)


def _decode_large(text: bytes) -> Any:
    """Read a text in a time that its size bounds, by the same rules as any other.

    Numbers with exponents take msgspec (0.22) up to 12 microseconds each. With each collection of garbage, everything
    that was read so far is visited.
    """
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        if not has_costly_numbers(text):
            return _decode(text)
        from pydantic_core import from_json

        value = from_json(text, allow_inf_nan=False, cache_strings="none")
        if may_overflow(text) and _is_infinite(value):
            raise ValueError("Number out of range")
        return value
    finally:
        if was_collecting:
            gc.enable()


def _is_infinite(value: Any) -> bool:
    return any(float in kinds and (math.inf in level or -math.inf in level) for level, kinds in _levels(value))


def _levels(value: Any) -> Iterator[tuple[list[Any], set[type]]]:
    """Yield all parts of a decoded value, those of one depth at a time, and their types: in C, as far as may be."""
    level = [value]
    while level:
        kinds = set(map(type, level))
        yield level, kinds
        objects = [each.values() for each in level if type(each) is dict] if dict in kinds else ()
        arrays = [each for each in level if type(each) is list] if list in kinds else ()
        level = list(chain(chain.from_iterable(objects), chain.from_iterable(arrays)))


def parse_trusted(text: bytes) -> Any:
    """Return the value of a JSON text that this process wrote itself."""
    return _decode(text)


def exactly(text: bytes, place: Sequence[str] = ()) -> Any:
    """Return what is at a place in a JSON text, with each number that no float holds as a `Decimal`.

    Args:
        text: A text that `parse` has accepted.
        place: The keys that lead there.
    """
    value = _decode_exactly(text)
    for key in place:
        value = value[key]
    return value


def _exact_number(text: str) -> float | Decimal:
    number, exact = float(text), Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


_decode_exactly = msgspec.json.Decoder(float_hook=_exact_number).decode


def parse_object(text: bytes, what: str = "body") -> dict[str, Any]:
    """Return the members of a JSON object; an empty text is an empty object.

    Args:
        text: The text.
        what: As for `parse`.

    Raises:
        MalformedRequest: As `parse`, or the text is another kind of value.
    """
    if not text or text.isspace():
        return {}
    value = parse(text, what)
    if type(value) is not dict:
        raise MalformedRequest(f"The {what} must be a JSON object, not {type_name(value)}.")
    return value


def _reason(text: bytes, exc: Exception) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "it is not UTF-8."
    if "surrogate" in str(exc) or re.search(rb"\\u[dD][89a-fA-F]", text):
        return "it holds a lone surrogate or is cut short."
    reason = re.sub(r" at line \d+ column \d+$", "", str(exc))  # one reader counts in the text as it has been sent
    return f"{reason.removeprefix('JSON is malformed: ').rstrip('.')}."


def _too_deep(what: str) -> MalformedRequest:
    return MalformedRequest(f"The {what} is nested too deeply: at most {MAX_DEPTH} levels are read.")


def _refuse_duplicate_keys(text: bytes, value: Any, what: str) -> None:
    """A lost duplicate shows as a colon, outside of strings, to which no member belongs."""
    members = 0
    for level, kinds in _levels(value):
        if dict in kinds:
            members += sum(len(each) for each in level if type(each) is dict)
    if members != members_of(text):
        if len(text) <= _NAMES_IN_ERRORS:
            json.loads(text, object_pairs_hook=partial(_unique, what))
        raise MalformedRequest(f"The {what} contains a key twice in one object.")


def _looks_the_same(text: bytes, value: Any, colons: int) -> bool:
    r"""Whether a small text certainly has no duplicate: one shows as fewer quotes and colons when the value is written.

    Escapes like ``\u0022`` could hide a loss.
    """
    again = _encode(value)
    return b"\\u" not in text and again.count(b'"') == text.count(b'"') and again.count(b":") == colons


def _unique(what: str, pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise MalformedRequest(f"The {what} names the key {json.dumps(key[:100])} twice in one object.")
        seen.add(key)


def type_name(value: Any) -> str:
    """Return JSON's word for the type of a decoded value."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object",
             Decimal: "number"}  # fmt: skip
    return names.get(type(value), type(value).__name__)


def to_jsonable(value: Any) -> Any:
    """Turn what msgspec does not know into what it does: pydantic models, numpy values, paths.

    Raises:
        TypeError: There is no faithful JSON form.
    """
    try:
        if hasattr(value, "model_dump"):
            from nexus_core.types.codecs import model_codec

            kind: Any = type(value)
            codec = model_codec(kind, to_jsonable)
            return value.model_dump(mode="json", by_alias=True) if codec is None else codec.dump(value)
        if isinstance(value, PurePath):
            return str(value)
        if hasattr(value, "tolist"):
            return value.tolist()
        if isinstance(value, deque):
            return list(value)
        if not isinstance(value, _NOT_FOR_PYDANTIC):
            from pydantic_core import PydanticSerializationError, to_jsonable_python

            with suppress(PydanticSerializationError):  # it does not know the type either
                return to_jsonable_python(value)  # addresses, URLs, fractions and the like
    except Exception as exc:  # its text is the workflow's own and not for callers
        log.error("Conversion of a %s to JSON failed", type(value).__name__, exc_info=exc)
        raise TypeError(f"the type {type(value).__name__} is not supported") from exc
    raise TypeError(f"the type {type(value).__name__} is not supported")


_encode = msgspec.json.Encoder(enc_hook=to_jsonable).encode


def encode(value: Any) -> bytes:
    """Return the JSON text of a workflow's value.

    This is the one conversion of Python's values to JSON, whatever they are part of:

    | value | JSON |
    |---|---|
    | ``None``, ``bool``, ``int``, ``float``, ``str`` | as they are; NaN and Infinity are refused |
    | ``list``, ``tuple``, ``set``, ``frozenset``, ``deque`` | array; a set in no particular order |
    | ``dict`` | object; keys that are numbers, dates, UUIDs, bytes or members of enumerations become text |
    | dataclass, msgspec ``Struct``, pydantic model | object; a struct and a model under the names they rename to |
    | ``NamedTuple`` | array |
    | ``Enum`` | the member's value |
    | ``datetime``, ``date``, ``time`` | text of ISO 8601 |
    | ``timedelta`` | text of an ISO 8601 duration |
    | ``Decimal`` | text, with all its digits |
    | ``bytes``, ``bytearray``, ``memoryview`` | text in base64 |
    | ``UUID``, ``pathlib`` paths, ``ipaddress`` addresses, ``Fraction``, patterns, pydantic's URLs | text |
    | pydantic's ``SecretStr`` and ``SecretBytes`` | text of asterisks |
    | numpy scalars and arrays, and what else has ``tolist`` | what ``tolist`` returns |
    | ``msgspec.Raw`` | the JSON text that it holds, unread |

    Anything else is refused: generators, complex numbers, objects of other classes.

    Raises:
        TypeError, ValueError: A member cannot be converted to JSON, such as NaN and Infinity, or is nested deeper than
            `MAX_DEPTH`.
    """
    try:
        text = _encode(value)
    except RecursionError:
        raise ValueError("it is nested too deeply or contains itself") from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and depth_and_weight(text)[0] > MAX_DEPTH:
        raise ValueError(f"it is nested too deeply: at most {MAX_DEPTH} levels can be read")
    # msgspec writes a NaN as null: only a text with a null in it can hide one.
    if b"null" in text and not _is_finite(value):
        for pointer in _not_finite(value, ""):
            raise ValueError(f"the number at {pointer or '/'} is not finite")
    return text


def plain(value: Any) -> Any:
    """Return a value in JSON's types: what a reader of `encode` of it gets.

    Raises:
        TypeError, ValueError: As `encode`.
    """
    return _decode(encode(value))


def same_text(value: Any) -> bytes | None:
    """Return JSON text that is read as this very value; None where it is not, as for a tuple or a NaN."""
    try:
        text = encode(value)
        return text if _is_same(value, _decode(text)) else None
    except (TypeError, ValueError, RecursionError):
        return None


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal, and of the same types throughout."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(each, other[key]) for key, each in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)


_encode_plain = msgspec.json.Encoder().encode


def size_of(value: Any) -> int:
    """Return how many bytes a value of plain types, dataclasses and structs has as JSON text; 0 for any other."""
    try:
        return len(_encode_plain(value))
    except Exception:  # a large array has no plain form either: to convert it might take long
        return 0


_encode_sorted = msgspec.json.Encoder(enc_hook=to_jsonable, order="deterministic").encode


def canonical(value: Any) -> bytes:
    """Return JSON text that is the same for equal values: members in the order of their names. For hashes, not readers.

    Raises:
        TypeError, ValueError: Something in it cannot be converted to JSON.
    """
    return _encode_sorted(value)


def _is_finite(value: Any) -> bool:
    """Whether a value of plain types has no NaN and no Infinity. Of others the answer is False."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _not_finite(value: Any, pointer: str) -> Iterator[str]:
    if isinstance(value, float):
        if not math.isfinite(value):
            yield pointer
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{pointer}/{key}")
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{pointer}/{index}")
    elif not isinstance(value, (str, int, bytes, type(None))):
        try:
            yield from _not_finite(msgspec.to_builtins(value, enc_hook=to_jsonable, str_keys=True), pointer)
        except (TypeError, ValueError):
            return
