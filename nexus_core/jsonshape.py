"""What the text of a JSON document says about its shape, before anything is built from it.

Every check here is a fixed number of passes over the text in C, none of which depends on how deep or how dense the
document is: a hostile text costs no more than a harmless one of the same size.
"""

from __future__ import annotations

from itertools import accumulate
from operator import add

BYTES_PER_ARRAY = 6
"""Bytes of a large text that there must be for each of its arrays, and three times as many for each object: to make
one of them takes the time of that many bytes of text."""

ALWAYS_READ = 700_000
"""Arrays that a text of any size may hold; an object counts as three. They take some 100 ms to make."""

_MANY_DIGITS = 40
_LARGEST_FLOAT_DIGITS = 309
_NOT_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_NOT_COLONS = bytes(set(range(256)) - set(b':"'))
_NUMBERS = bytes.maketrans(b"123456789E", b"000000000e")

# Marks as digits to the base of four: a quote is 1, what opens (and a colon) is 2, what closes is 3.
_CELLS = bytes.maketrans(b'"[{:]}', b"122233")
_OBJECTS = bytes.maketrans(b'"[{]}', b"00100")
_PER_BYTE = 4


def _rise(byte: int) -> tuple[int, int]:
    """Return by how much four cells raise the depth in all, and at most on the way: 1 opens, 2 closes, 0 is neither."""
    depths = list(accumulate((0, 1, -1, 0)[byte >> shift & 3] for shift in (6, 4, 2, 0)))
    return depths[-1], max(0, *depths)


_NET = bytes(_rise(byte)[0] & 0xFF for byte in range(256))
_PEAK = bytes(_rise(byte)[1] for byte in range(256))


def most_arrays(text: bytes) -> int:
    """Return how many arrays a document may hold, where an object counts as three."""
    return max(ALWAYS_READ, len(text) // BYTES_PER_ARRAY)


def depth_and_weight(text: bytes) -> tuple[int, int]:
    """Return how deep a document is nested, and how many arrays it holds, where an object counts as three.

    Of a text that is not JSON, the answer means nothing. The depth is 0 where the weight is above `most_arrays`.
    """
    marks = _Marks(text, _NOT_BRACKETS)
    weight = marks.opens.bit_count() + 2 * (int(marks.text.translate(_OBJECTS), 4) & marks.outside).bit_count()
    return (0 if weight > most_arrays(text) else _depth(marks.opens | marks.closes << 1, marks.size)), weight


def members_of(text: bytes) -> int:
    """Return how many members the objects of a document have, a name that is there twice counted twice."""
    return text.count(b":") if b'"' not in text else _Marks(text, _NOT_COLONS).opens.bit_count()


class _Marks:
    """Quotes, and brackets or colons, of a document: two bits of a large number each, four marks to a byte.

    Attributes:
        text: The marks.
        size: How many bytes they fill.
        outside: A bit for each mark that is not in a string.
        opens: A bit for each bracket that opens, or colon, that is not in a string.
        closes: The same for brackets that close.
    """

    __slots__ = ("closes", "opens", "outside", "size", "text")

    def __init__(self, text: bytes, others: bytes) -> None:
        if b"\\" in text:
            text = text.replace(b"\\\\", b"").replace(b'\\"', b"")  # from here on each quote begins or ends a string
        # Two quotes side by side can go, wherever they stand: what is inside of a string stays inside.
        marks = text.translate(None, others).replace(b'""', b"")
        self.size = -(-len(marks) // _PER_BYTE)
        self.text = marks.ljust(self.size * _PER_BYTE, b'"') or b'"'
        cells = int(self.text.translate(_CELLS), 4)
        low = int.from_bytes(b"\x55" * self.size, "big")
        others_than_quotes = cells >> 1 & low
        self.outside = low ^ _inside_strings(cells & low & ~others_than_quotes, 8 * self.size)
        self.opens = others_than_quotes & ~cells & self.outside
        self.closes = others_than_quotes & cells & self.outside


def _inside_strings(quotes: int, bits: int) -> int:
    """Return a bit for each cell that has an odd number of quotes up to it: a prefix sum, in steps that double."""
    step = 2
    while quotes and step < bits:
        quotes ^= quotes >> step
        step *= 2
    return quotes


def _depth(cells: int, size: int) -> int:
    """Return how deep brackets are nested, byte by byte: what each does to the depth is in a table."""
    packed = cells.to_bytes(size, "big")
    before = accumulate(memoryview(packed.translate(_NET)).cast("b"), initial=0)
    return max(map(add, before, packed.translate(_PEAK)), default=0)


def has_costly_numbers(text: bytes) -> bool:
    """Whether there may be numbers that are slow to read: with an exponent, or with very many digits."""
    shape = text.translate(_NUMBERS, b"+-.")
    return b"0e0" in shape or b"0" * _MANY_DIGITS in shape


def may_overflow(text: bytes) -> bool:
    """Whether there may be numbers that are larger than any float: with an exponent of three digits, or so many."""
    shape = text.translate(_NUMBERS, b"+.")
    return b"0e000" in shape or b"0" * _LARGEST_FLOAT_DIGITS in shape
