"""What clients do wrong costs one line of the log, with a count, and tells nobody the id of a session."""

from __future__ import annotations

import asyncio
import json
import logging

import callers
import httpx2
import pytest
from nexus_mcp.library_log import LOGGERS, LibraryLog

INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def lines(caplog):
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_post_that_is_broken_off_costs_no_traceback(build, kit, caplog):
    nexus = build()
    modern = [f"{name}: {value}" for name, value in kit.modern("sleep").items()]
    async with kit.serving(nexus) as address, httpx2.AsyncClient(headers=kit.accept, timeout=60) as http:
        opened = await http.post(address, json=kit.initialize())
        in_session = [f"mcp-session-id: {opened.headers['mcp-session-id']}", "mcp-protocol-version: 2025-11-25"]
        port = int(address.removesuffix("/mcp").rpartition(":")[2])
        body = json.dumps(kit.call("sleep", seconds=30)).encode()
        for headers in ([], in_session, modern):
            for sent in (body[:20], body):
                for _ in range(3):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    head = [
                        "POST /mcp HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *headers,
                        *(f"{name}: {value}" for name, value in kit.accept.items()),
                    ]  # fmt: skip
                    writer.write("\r\n".join([*head, "", ""]).encode() + sent)
                    await writer.drain()
                    writer.transport.abort()
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"mcp-session-id": opened.headers["mcp-session-id"]}
        assert (await http.post(address, json=ping, headers=headers)).status_code == 200
    assert [record for record in caplog.records if record.exc_info] == []
    assert len(lines(caplog)) <= 3, [record.getMessage() for record in lines(caplog)]


async def test_an_answer_that_can_not_be_sent_costs_one_line(build, kit, caplog):
    """Other servers' ``send`` raises when the client has left."""
    nexus = build()

    async def post(app, body, **headers):
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/mcp", "raw_path": b"/mcp", "query_string": b"", "root_path": "", "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 80),
            "headers": [(name.encode(), value.encode()) for name, value in (kit.accept | headers).items()]
            + [(b"host", b"localhost")],
        }  # fmt: skip
        messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive():
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message):
            if message["type"] == "http.response.body":
                raise OSError("the client has left")

        await app(scope, receive, send)

    async with nexus:
        app = nexus.asgi_app()
        for _ in range(5):
            await post(app, kit.initialize())
    told = [record for record in lines(caplog) if record.name == "nexus_mcp.library_log"]
    assert [record.exc_info for record in told] == [None]
    assert "SSE response error: OSError: the client has left" in told[0].getMessage()
    assert not [record for record in caplog.records if record.name.startswith("mcp.") and record.exc_info]


async def test_malformed_and_guessed_messages_cost_one_line_a_kind_and_tell_no_id(build, kit, caplog):
    nexus = build(callers.Callers())
    async with kit.serving(nexus) as address, httpx2.AsyncClient(headers=kit.accept, timeout=60) as http:
        alice, bob = ({"authorization": f"Bearer {name}"} for name in ("alice", "bob"))
        opened = await http.post(address, json=kit.initialize(), headers=alice)
        session_id = opened.headers["mcp-session-id"]
        session = {"mcp-session-id": session_id, "mcp-protocol-version": "2025-11-25"}
        await http.post(address, json=INITIALIZED, headers=alice | session)
        for _ in range(10):
            assert (await http.post(address, json=INITIALIZED, headers=bob | session)).status_code == 404
            malformed = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}}
            await http.post(address, json=malformed, headers=alice | session)
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await http.post(address, json=ping, headers=alice | session)).status_code == 200
        told = [record.getMessage() for record in lines(caplog)]
        assert 1 <= len(told) <= 2, told
        assert any("credential does not match" in line for line in told)
        assert not [record for record in caplog.records if session_id in record.getMessage()]


def test_less_than_a_warning_is_left_alone_and_all_of_it_is_when_it_is_detached(caplog):
    library = logging.getLogger(LOGGERS[1])
    ours = LibraryLog()
    ours.attach()
    with caplog.at_level(logging.INFO, library.name):
        library.info("told of %s", "0123456789abcdef" * 2)
        library.warning("Session %s is odd", "0123456789abcdef" * 2)
        ours.detach()
        library.warning("told as well")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        (library.name, "told of 01234567..."),
        ("nexus_mcp.library_log", "The MCP library: Session 01234567... is odd"),
        (library.name, "told as well"),
    ]


@pytest.mark.parametrize("name", LOGGERS)
def test_the_loggers_are_the_librarys(name):
    import importlib

    module = importlib.import_module(name)
    assert module.logger.name == name
