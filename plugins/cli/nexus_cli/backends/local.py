"""Backends in this process: a platform that is started already, and an application to be started."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from nexus_cli.backends.backend import OnEvent, credentials, encode_request, read_item, trace_of_environment
from nexus_cli.server.service import RequestAnswer, Service
from nexus_core.concurrency import process
from nexus_core.jsontext import parse_trusted
from nexus_core.pipeline.invocation import Caller

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

    from nexus_cli.options import Options
    from nexus_core import Nexus, Platform
    from nexus_core.types.principal import RateLimit


class LocalBackend:
    """Answers requests with a platform of this process that is started already. No port is opened.

    Args:
        platform: The platform.
        loop: Its event loop. It must not be the running one.
        seconds: Time limit of an answer; None for no limit.
    """

    where = "this process"
    rate_limit: RateLimit | None = None
    shares_runs = True

    def __init__(self, platform: Platform, loop: asyncio.AbstractEventLoop, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._service = Service(platform)
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the platform's event loop, and return its result."""
        return self._run(work).result()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def another(self) -> LocalBackend:
        """See `CliBackend.another`."""
        return self

    def call(self, request: dict[str, Any], options: Options, on_event: OnEvent | None = None) -> bytes:
        """See `CliBackend.call`.

        Raises:
            TimeoutError: The answer takes too long.
        """
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        caller = Caller(
            "cli", credentials=credentials(options.token), session_id=options.session,
            trace=trace_of_environment() or None,
            headers={name.encode(): value.encode() for name, value in options.headers.items()} or None,
        )  # fmt: skip
        written = encode_request(request)
        answer = self._service.answer(parse_trusted(written), caller, written, options.idempotency_key)
        work = self._run(_put(answer, lines))
        work.add_done_callback(lambda _: lines.put(None))
        reply = b""
        end = None if self._seconds is None else time.monotonic() + self._seconds
        try:
            while (text := lines.get(timeout=None if end is None else max(0.0, end - time.monotonic()))) is not None:
                line = read_item(text)
                if line.event is None:
                    reply = bytes(line.reply)
                elif on_event is not None:
                    on_event(line.event)
        except queue.Empty:
            work.cancel()
            raise TimeoutError(f"No answer within {self._seconds:g} s.") from None
        except BaseException:
            work.cancel()
            raise
        self.rate_limit = answer.caller.rate_limit
        work.result()
        return reply

    def close(self) -> None:
        """Leave the platform as it is."""


async def _put(answer: RequestAnswer, queue: queue.SimpleQueue[bytes | None]) -> None:
    """Put the lines of an answer into a queue."""
    async with aclosing(answer.lines) as lines:
        async for line in lines:
            queue.put(line)


class ApplicationBackend(LocalBackend):
    """Answers requests with an application that it starts and stops, on an event loop in a separate thread.

    The loop runs while the shell waits at its prompt: the application's background tasks go on.

    Args:
        nexus: The application.

    Raises:
        ConfigurationError: The application can't start.
    """

    def __init__(self, nexus: Nexus) -> None:
        super().__init__(nexus, process.new_event_loop())
        self._nexus = nexus
        self.shares_runs = nexus.options.run_store != "memory"
        # Every call has ended when this is closed: whatever still runs was abandoned by its caller.
        nexus.options = nexus.options.model_copy(update={"shutdown_grace": 0.0})
        threading.Thread(target=self._loop.run_forever, name="nexus-cli-loop", daemon=True).start()
        self.run(nexus.__aenter__())

    def close(self) -> None:
        """Stop the application. Work that does not end soon is left behind."""
        try:
            self.run(self._nexus.__aexit__(None, None, None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
