"""`LocalBackend`: the application in this process, in an event loop on a thread of its own.

The loop goes on while the shell waits at its prompt: the application's own tasks don't stand still.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from nexus_cli.backends.backend import OnEvent, credentials, encode_request, read_item, trace_of_environment
from nexus_cli.server.requests import PARAMS
from nexus_cli.server.service import Service
from nexus_core.concurrency import process
from nexus_core.jsontext import parse_trusted
from nexus_core.pipeline.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

    from nexus_cli.options import Options
    from nexus_core.app.nexus import Nexus
    from nexus_core.types.principal import RateLimit


class LocalBackend:
    """Answers requests with an application of this process. No port is opened.

    Args:
        nexus: The application.
        loop: The event loop on which somebody else has started it, and will stop it; None to do both here.
        seconds: How long an answer may take; None for as long as it does.

    Raises:
        ConfigurationError: The application can't start.
    """

    where = "this process"
    rate_limit: RateLimit | None = None

    def __init__(
        self, nexus: Nexus, loop: asyncio.AbstractEventLoop | None = None, seconds: float | None = None
    ) -> None:
        self._nexus = nexus
        self._seconds = seconds
        self._service = Service(nexus)
        self._is_owner = loop is None
        if loop is not None:
            self._loop = loop
            return
        # When this is closed, only work that nobody waits for any more is left.
        nexus.options = nexus.options.model_copy(update={"shutdown_grace": 0.0})
        self._loop = process.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="nexus-cli-loop", daemon=True).start()
        self._run(nexus.__aenter__()).result()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the application's event loop, and return what it returns."""
        return self._run(work).result()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, request: dict[str, Any], options: Options, on_event: OnEvent | None = None) -> bytes:
        """See `Backend.call`.

        Raises:
            TimeoutError: The answer takes too long.
        """
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        caller = Invocation(
            "", None, "cli", credentials=credentials(options.token), session_id=options.session,
            idempotency_key=options.idempotency_key, trace=trace_of_environment() or None,
        )  # fmt: skip
        written = encode_request(request)
        caller.source = (written, PARAMS)
        work = self._run(self._answer(parse_trusted(written), caller, lines))
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
            raise TimeoutError(f"There is no answer after {self._seconds:g} s.") from None
        except BaseException:
            work.cancel()
            raise
        self.rate_limit = caller.rate_limit
        work.result()
        return reply

    async def _answer(
        self, request: dict[str, Any], caller: Invocation, lines: queue.SimpleQueue[bytes | None]
    ) -> None:
        async with aclosing(self._service.answer(request, caller)) as answer:
            async for line in answer:
                lines.put(line)

    def close(self) -> None:
        """Stop the application, if it was started here. Work that does not end in a moment is left behind."""
        if not self._is_owner:
            return
        try:
            self._run(self._nexus.__aexit__(None, None, None)).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
