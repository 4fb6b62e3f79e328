"""`CommandLine`: command lines on a started platform of this process, for tests and programs."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from nexus_core import Platform


@dataclass(frozen=True)
class CommandResult:
    """The result of a command line.

    Attributes:
        exit_code: Its exit code.
        output: Its stdout.
        stderr: Its stderr.
    """

    exit_code: int
    output: str
    stderr: str

    def json(self) -> Any:
        """Return the output parsed as JSON.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.output)


class CommandLine:
    """The service ``command_line``.

    Args:
        platform: The platform.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def run(
        self,
        words: Sequence[str],
        loop: asyncio.AbstractEventLoop,
        token: str | None = None,
        session: str | None = None,
        seconds: float | None = None,
    ) -> CommandResult:
        """Run a command line as if its output were piped. Environment variables of the common options are ignored.

        Args:
            words: The arguments, without ``nexus``.
            loop: The platform's event loop. It must not be the running one, which this blocks.
            token: The caller's credential.
            session: The session that calls belong to.
            seconds: Time limit of each call; None for no limit.

        Raises:
            TimeoutError: A call takes longer.
        """
        from nexus_cli.backends.local import LocalBackend
        from nexus_cli.context import CliContext
        from nexus_cli.dispatch import run
        from nexus_cli.options import Options, UsageError, take
        from nexus_cli.terminal.output import Output
        from nexus_cli.terminal.thread_streams import own_streams

        stdout, stderr = _stream(), _stream()
        base = Options(token=token, session=session)
        cli = CliContext(base, Output(stdout, stderr), LocalBackend(self._platform, loop, seconds))
        with suppress(UsageError):  # `run` reports it
            options, rest = take([*words], base)
            if rest[:1] in (["serve"], ["shell"], ["worker"]):
                return CommandResult(2, "", f"nexus: {rest[0]} needs a separate process.\n")
            if options.app is not None or options.connect is not None:
                return CommandResult(2, "", "nexus: --app and --connect are not allowed: the application is given.\n")
        with own_streams(stdout, stderr):
            code = run(cli, [*words], base)
        return CommandResult(code, _text(stdout), _text(stderr))


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")
