"""The protocol over two byte streams, a message a line, as strict about JSON as the other channels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, BinaryIO

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, ErrorData, JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

from nexus_core import MalformedRequest, jsontext
from nexus_core.errors import RequestTooLarge
from nexus_mcp.http import PARSE_ERROR

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from nexus_core.errors import NexusError
    from nexus_core.threads import DaemonThreads
    from nexus_mcp.server import McpServer

CLOSING_SECONDS = 5.0
"""How long answers that are being written may take once the client has closed its side."""


async def serve(
    server: McpServer, reader: BinaryIO, writer: BinaryIO, threads: DaemonThreads, max_line_bytes: int
) -> None:
    """Serve one client until it closes its side.

    Args:
        server: What answers.
        reader: Where messages come from. It may block: it is read in a thread.
        writer: Where messages go.
        threads: For reading and writing.
        max_line_bytes: The longest message.
    """
    incoming, requests = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    answers, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    refusals = answers.clone()
    writing = asyncio.create_task(_write(outgoing, writer, threads))
    reading = asyncio.create_task(_read(reader, incoming, refusals, threads, max_line_bytes))
    try:
        await server.run(requests, answers, server.create_initialization_options())
    finally:
        reading.cancel()
        refusals.close()
        await asyncio.wait({reading, writing}, timeout=CLOSING_SECONDS)
        writing.cancel()


async def _read(
    reader: BinaryIO, incoming: MemoryObjectSendStream[SessionMessage | Exception],
    refusals: MemoryObjectSendStream[SessionMessage], threads: DaemonThreads, limit: int,
) -> None:  # fmt: skip
    async with incoming:
        while line := await threads.call(reader.readline, limit + 1):
            if len(line) > limit:
                await _skip_line(reader, line, threads, limit)
                error = RequestTooLarge(f"The message is larger than max_body_bytes ({limit}).")
                await refusals.send(_refusal(error.jsonrpc_code, error))
            elif not line.isspace():
                await _pass_on(line, incoming, refusals)


async def _skip_line(reader: BinaryIO, line: bytes, threads: DaemonThreads, limit: int) -> None:
    while line and not line.endswith(b"\n"):
        line = await threads.call(reader.readline, limit)


async def _pass_on(
    line: bytes, incoming: MemoryObjectSendStream[SessionMessage | Exception],
    refusals: MemoryObjectSendStream[SessionMessage],
) -> None:  # fmt: skip
    try:
        value = jsontext.parse(line, "message")
        message = jsonrpc_message_adapter.validate_python(value, by_name=False)
    except MalformedRequest as exc:
        await refusals.send(_refusal(PARSE_ERROR, exc))
    except ValidationError:
        invalid = MalformedRequest("The message is not a JSON-RPC request, notification or response.")
        await refusals.send(_refusal(INVALID_REQUEST, invalid))
    else:
        await incoming.send(SessionMessage(message))


def _refusal(code: int, exc: NexusError) -> SessionMessage:
    error = ErrorData(code=code, message=exc.message, data=exc.problem())
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=None, error=error))


async def _write(outgoing: MemoryObjectReceiveStream[SessionMessage], writer: BinaryIO, threads: DaemonThreads) -> None:
    async with outgoing:
        async for message in outgoing:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            try:
                await threads.call(_write_all, writer, text.encode() + b"\n")
            except OSError:
                return  # the client is gone; its input ends too


def _write_all(writer: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[writer.write(view) :]
