"""The protocol over two byte streams, one message per line, with the JSON rules of the other channels."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

import anyio
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp.types import (
    INVALID_REQUEST,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from nexus_core import MalformedRequest, jsontext
from nexus_core.errors import RequestTooLarge
from nexus_mcp.caller import StdioMessage
from nexus_mcp.http import PARSE_ERROR

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.types import JSONRPCMessage

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.errors import NexusError
    from nexus_mcp.server import McpServer

log = logging.getLogger(__name__)

UNREAD_ANSWERS = 10
"""Unread responses after which no further message of the client is read: they would fill the memory."""

CLOSING_SECONDS = 1.0
"""Seconds for the client to read the last responses."""


class StdioTransport:
    """One client, which writes to one stream and reads from another.

    Args:
        reader: The stream of the client's messages. It may block: it is read in a thread.
        writer: The stream of the server's messages.
        threads: Threads for reading and writing.
        max_line_bytes: Largest message in bytes.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO, threads: DaemonThreads, max_line_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        self._threads = threads
        self._limit = max_line_bytes
        self._unanswered: set[str] = set()
        self._written = asyncio.Event()
        self._incoming, self._requests = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        self._answers, self._outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        self._refusals = self._answers.clone()

    async def serve(self, server: McpServer, grace: float) -> None:
        """Serve the client until it closes its stream; active calls then get ``grace`` seconds to be answered.

        A client that stops reading is disconnected: it would not receive responses.
        """
        writing = asyncio.create_task(self._write())
        reading = asyncio.create_task(self._read(server, grace))
        writing.add_done_callback(lambda _: reading.cancel())
        try:
            await server.run(self._requests, self._answers, server.create_initialization_options())
        finally:
            reading.cancel()
            self._refusals.close()
            await asyncio.wait({reading, writing}, timeout=CLOSING_SECONDS)
            writing.cancel()

    async def _read(self, server: McpServer, grace: float) -> None:
        async with self._incoming:  # that it closes ends the server
            try:
                while line := await self._threads.call(self._reader.readline, self._limit + 1):
                    await self._take(line)
                    await self._until(self._are_answers_read)
            except OSError as exc:
                log.warning("Reading from the client failed: %s", exc)
            server.end_listening()  # those requests would never be answered otherwise
            try:
                async with asyncio.timeout(grace):
                    await self._until(self._are_all_answered)
            except TimeoutError:
                log.warning("shutdown_grace has passed: cancelling the active calls")

    async def _take(self, line: bytes) -> None:
        if len(line) > self._limit:
            while line and not line.endswith(b"\n"):
                line = await self._threads.call(self._reader.readline, self._limit)
            error = RequestTooLarge(f"The message is larger than max_body_bytes ({self._limit}).")
            await self._refuse(error.jsonrpc_code, error)
        elif not line.isspace():
            await self._pass_on(line)

    async def _pass_on(self, line: bytes) -> None:
        try:
            message = jsonrpc_message_adapter.validate_python(jsontext.parse(line, "message"), by_name=False)
        except MalformedRequest as exc:
            await self._refuse(PARSE_ERROR, exc)
        except ValidationError:
            invalid = MalformedRequest("The message is not a JSON-RPC request, notification or response.")
            await self._refuse(INVALID_REQUEST, invalid)
        else:
            self._note(message)
            metadata = ServerMessageMetadata(request_context=StdioMessage(line))
            await self._incoming.send(SessionMessage(message, metadata))

    def _note(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest):
            self._unanswered.add(str(message.id))  # a client may cancel request 1 as "1"
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._unanswered.discard(str((message.params or {}).get("requestId")))  # it is never answered

    def _are_answers_read(self) -> bool:
        return self._outgoing.statistics().tasks_waiting_send < UNREAD_ANSWERS

    def _are_all_answered(self) -> bool:
        return not self._unanswered

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that may change with each written message."""
        while not condition():
            self._written.clear()
            await self._written.wait()

    async def _refuse(self, code: int, exc: NexusError) -> None:
        error = ErrorData(code=code, message=exc.message, data=exc.problem())
        with suppress(anyio.BrokenResourceError):  # the client reads no more
            await self._refusals.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=None, error=error)))

    async def _write(self) -> None:
        async with self._outgoing:
            async for each in self._outgoing:
                message = each.message
                text = message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    await self._threads.call(_write_all, self._writer, text.encode() + b"\n")
                except OSError:
                    return  # the client reads no more
                if isinstance(message, (JSONRPCResponse, JSONRPCError)):
                    self._unanswered.discard(str(message.id))
                self._written.set()


def _write_all(writer: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[writer.write(view) :]
