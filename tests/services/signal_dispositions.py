"""What the processes that tests start do with signals: what a fresh program does, however the tests were started."""

from __future__ import annotations

import signal

BACKGROUND = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""What a shell without job control (``make test &``) or ``nohup`` ignores for what it starts."""


def handle_ignored_signals() -> None:
    """Handle what is ignored. A program that a process starts ignores what the process ignores, not what it handles."""
    for number in BACKGROUND:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _do_nothing)


def _do_nothing(number: int, frame: object) -> None:
    """Leave the tests running when the terminal goes, as ``nohup`` is to see to."""
