"""A caller who leaves in the middle of its request, or of its call, costs no traceback."""

from __future__ import annotations

import json
import logging

import pytest


def post(body, length, *headers):
    lines = ["POST /mcp HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}"]
    lines += ["Accept: application/json, text/event-stream", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_request_that_is_broken_off(build, kit, raw, eventually, caplog, how):
    caplog.set_level(logging.DEBUG)
    async with kit.serving(build()) as address:
        for _ in range(5):
            connection = raw(address.removesuffix("/mcp"))
            await connection.ask(post(b"", 1000, "Expect: 100-continue"), b"\r\n\r\n")  # the body is being read
            await connection.send(b'{"jsonrpc":')
            getattr(connection, how)()
        last = raw(address.removesuffix("/mcp"))
        assert b" 400 " in await last.ask(post(b"{", 1), b"}")
    assert "Traceback" not in caplog.text
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("token", [None, 1])
async def test_a_call_that_is_left(build, kit, raw, seen, eventually, caplog, token):
    async with kit.serving(build()) as address:
        message = kit.call("sleep", seconds=3600)
        if token is not None:
            message["params"]["_meta"] = message["params"]["_meta"] | {"progressToken": token}
        body = json.dumps(message).encode()
        connection = raw(address.removesuffix("/mcp"))
        await connection.send(
            post(body, len(body), *(f"{name}: {value}" for name, value in kit.modern("sleep").items()))
        )
        await eventually(lambda: seen.started)
        connection.reset()
        await eventually(lambda: seen.cancelled)
    assert "Traceback" not in caplog.text
