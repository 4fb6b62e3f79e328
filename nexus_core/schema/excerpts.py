"""Parts of a large value, small enough to tell everything that is wrong with them.

A report costs some 20 microseconds and a kilobyte for each wrong member, and more the deeper it is or the more its
schema says: a million of them would hold up a process for a minute. So of a large value only parts are reported on.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPORTED = 1500
"""Members of what is reported on at once, where eight levels of depth count as one more."""

CHECKED = 20_000
"""Members, counted so, of a part that is checked for whether anything is wrong in it."""

LOOKED_AT = 300_000
"""Members, counted so, of all parts that are checked."""

_WIDTHS = (1024, 128, 16, 4, 1)


class _TooLarge(Exception):
    pass


class Excerpt:
    """A copy of a value in which long arrays and objects have some of their members only.

    Args:
        value: The value.
        width: Members that each may have.
        number: Which: 0 for the first ones, 1 for those after them. What has not so many keeps its first ones.
        most: Members that the copy may have, where eight levels of depth count as one more.

    Attributes:
        value: The copy.
        size: Its members, counted so.
        longest: Members of the longest array or object that was cut.

    Raises:
        _TooLarge: It would have more.
    """

    def __init__(self, value: Any, width: int, number: int, most: int) -> None:
        self.size = 0
        self.longest = 0
        self._width = width
        self._number = number
        self._most = most
        self._cut_at: set[tuple[Any, ...]] = set()
        self._begins: dict[str, int] = {}
        self.value = self._copy(value, ())

    def _copy(self, value: Any, path: tuple[Any, ...]) -> Any:
        self.size += 1 + len(path) // 8
        if self.size > self._most:
            raise _TooLarge
        if type(value) is list:
            return [self._copy(each, (*path, index)) for index, each in enumerate(self._cut(value, path))]
        if type(value) is dict:
            return {name: self._copy(value[name], (*path, name)) for name in self._cut(value, path)}
        return value

    def _cut(self, members: list[Any] | dict[str, Any], path: tuple[Any, ...]) -> Sequence[Any]:
        if len(members) <= self._width:
            return list(members)
        self.longest = max(self.longest, len(members))
        begin = self._width * self._number
        begin = begin if begin < len(members) else 0
        self._cut_at.add(path)
        if type(members) is list:
            self._begins["".join(f"/{part}" for part in path)] = begin
        return list(islice(members, begin, begin + self._width))

    def is_cut(self, path: Sequence[Any]) -> bool:
        """Whether the array or object at a path lacks members that it has."""
        return tuple(path) in self._cut_at

    def original(self, pointer: str, outside: int = 0) -> str:
        """Return the pointer into the whole value that leads to where a pointer into the copy does.

        Args:
            pointer: The pointer.
            outside: How many names it begins with that lead to the value.
        """
        names = pointer.split("/")
        found = names[: outside + 1]
        for place, name in enumerate(names[outside + 1 :], start=outside + 1):
            begin = self._begins.get("".join(f"/{each}" for each in names[outside + 1 : place]), 0)
            found.append(str(int(name) + begin) if begin and name.isdecimal() else name)
        return "/".join(found)


def excerpts(value: Any, most: int) -> Iterator[Excerpt]:
    """Yield parts of a value, one after the other, until enough of it has been looked at.

    The first is the value itself where that is small enough.

    Args:
        value: The value.
        most: Members that a part may have, where eight levels of depth count as one more.
    """
    for width in _WIDTHS:
        try:
            yield from _of_width(value, width, most)
        except _TooLarge:
            continue
        return


def _of_width(value: Any, width: int, most: int) -> Iterator[Excerpt]:
    left, number = LOOKED_AT, 0
    while left > 0:
        excerpt = Excerpt(value, width, number, most)
        left -= excerpt.size
        number += 1
        yield excerpt
        if width * number >= excerpt.longest:
            return
