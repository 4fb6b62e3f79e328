"""Reserves standard input and output for the protocol."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def redirected() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield the real standard input and output; all other code gets an empty input, and standard error.

    Applies to ``print`` and, on the level of file descriptors, for C code and child processes.
    """
    sys.stdout.flush()
    reader = os.fdopen(os.dup(0), "rb", closefd=False)  # a thread may hang in it to the end of the process
    writer = os.fdopen(os.dup(1), "wb", buffering=0, closefd=False)
    stdout = sys.stdout
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield reader, writer
    finally:
        sys.stdout = stdout
        stdout.flush()
        os.dup2(reader.fileno(), 0)
        os.dup2(writer.fileno(), 1)
