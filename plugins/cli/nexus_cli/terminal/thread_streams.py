"""`own_streams`: redirects stdout and stderr of one thread."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHANGING = threading.Lock()


class _ByThread:
    """Replaces a stream of the process, and writes to the current thread's stream if it has one."""

    def __init__(self, original: TextIO) -> None:
        self.original = original
        self.own = threading.local()
        self.users = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self.own, "stream", self.original), name)


@contextmanager
def own_streams(stdout: TextIO, stderr: TextIO) -> Iterator[None]:
    """Redirect this thread's stdout and stderr in the block."""
    given = {"stdout": stdout, "stderr": stderr}
    with _CHANGING:
        used = {name: _taken(name) for name in given}
    for name, each in used.items():
        each.own.stream = given[name]
    try:
        yield
    finally:
        for each in used.values():
            del each.own.stream
        with _CHANGING:
            for name, each in used.items():
                each.users -= 1
                if not each.users and getattr(sys, name) is each:  # not replaced by others meanwhile
                    setattr(sys, name, each.original)


def _taken(name: str) -> _ByThread:
    stream = getattr(sys, name)
    if not isinstance(stream, _ByThread):
        stream = _ByThread(stream)
        setattr(sys, name, cast("TextIO", stream))
    stream.users += 1
    return stream
