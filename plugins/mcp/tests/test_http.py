"""What stands before the protocol: hosts, JSON, limits, the late import, the end."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import httpx2
import pytest
from nexus_mcp.plugin import McpPlugin

from nexus_core import ConfigurationError, Nexus


async def test_the_library_is_not_imported_before_the_process_is_ready():
    program = """
import asyncio, sys
from nexus_mcp.plugin import McpPlugin
from nexus_hypercorn.plugin import HypercornPlugin
from nexus_core import Nexus

async def main():
    nexus = Nexus(discover=False, plugins=[McpPlugin, HypercornPlugin], mcp_port=0)
    async with nexus.serving():
        print(sorted({name.partition(".")[0] for name in sys.modules} & {"mcp", "mcp_types", "starlette", "httpx2"}))

asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert done.stdout.strip() == "[]", done.stderr


async def test_the_event_loop_goes_on_while_the_library_is_imported():
    """The first request waits for the import in a thread; the interpreter's lock goes round meanwhile."""
    program = """
import asyncio, sys, time
from nexus_mcp.plugin import McpPlugin
from nexus_hypercorn.plugin import HypercornPlugin
from nexus_core import Nexus

async def main():
    nexus = Nexus(discover=False, plugins=[McpPlugin, HypercornPlugin], mcp_port=0)
    async with nexus.serving() as listeners:
        port = int(listeners[0].url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        head = ["POST /mcp HTTP/1.1", "host: localhost", "content-type: application/json",
                "accept: application/json, text/event-stream", f"content-length: {len(body)}"]
        writer.write("\\r\\n".join([*head, "", ""]).encode() + body)
        answer = asyncio.create_task(reader.readline())
        turns = 0
        while not answer.done():
            await asyncio.sleep(0.005)
            turns += 1
        print(turns, answer.result().decode().split()[1], "mcp" in sys.modules)
        writer.close()

asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    turns, status, imported = done.stdout.split()
    assert int(turns) >= 5, done.stderr
    assert (status, imported) == ("400", "True")  # a ping needs a session


@pytest.fixture
async def raw(build, kit):
    """A plain HTTP client for a served platform."""
    async with kit.serving(build(max_body_bytes=1_000_000)) as address, httpx2.AsyncClient(headers=kit.accept) as http:

        async def post(content, **headers):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            return await http.post(address, content=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

        yield SimpleNamespace(post=post, http=http, address=address)


@pytest.mark.parametrize("version", [None, "2025-11-25", "2026-07-28"])
async def test_a_rebound_name_is_refused(raw, kit, version):
    headers = {"mcp_protocol_version": version} if version else {}
    refused = await raw.post(kit.initialize(), host="evil.example", **headers)
    assert refused.status_code == 421
    error = refused.json()["error"]
    assert "allowed_hosts" in error["message"]
    assert "NEXUS_ALLOWED_HOSTS" in error["message"]
    refused = await raw.post(kit.initialize(), origin="http://evil.example", **headers)
    assert refused.status_code == 403
    assert "NEXUS_MCP_ALLOWED_ORIGINS" in refused.json()["error"]["message"]
    for request in (raw.http.get, raw.http.delete):
        assert (await request(raw.address, headers={"host": "evil.example"})).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:3001"])
async def test_this_machines_own_names_are_answered(raw, kit, host):
    assert (await raw.post(kit.initialize(), host=host, origin=f"http://{host}")).status_code == 200


@pytest.mark.parametrize("host", ["192.0.2.7:3001", "[2001:db8::7]", "app.localhost:3001"])
async def test_names_that_can_not_be_rebound_are_answered_and_pages_from_elsewhere_may_not_call(raw, kit, host):
    assert (await raw.post(kit.initialize(), host=host)).status_code == 200
    assert (await raw.post(kit.initialize(), origin=f"http://{host}")).status_code == 403
    assert (await raw.post(kit.initialize(), host=host, origin=f"http://{host}")).status_code == 200


@pytest.mark.parametrize("host", ["", "localhost.evil.example", "127.0.0.1.evil.example", "0x7f.1", "xlocalhost"])
async def test_names_that_only_look_like_it_are_not(raw, kit, host):
    assert (await raw.post(kit.initialize(), host=host)).status_code in (400, 421)


@pytest.mark.parametrize(
    "origin",
    ["null", "file://", "http://localhost.evil.example", "http://127.0.0.1@evil.example", "http://[", "http://"],
)
async def test_odd_origins_are_refused(raw, kit, origin):
    assert (await raw.post(kit.initialize(), origin=origin)).status_code == 403


async def test_hosts_and_origins_can_be_allowed(build, kit):
    options = {"allowed_hosts": ["mcp.example.com"], "mcp_allowed_origins": ["https://app.example.com"]}
    async with kit.serving(build(**options)) as address, httpx2.AsyncClient(headers=kit.accept) as http:
        for headers, status in (
            ({"host": "mcp.example.com"}, 200),
            ({"host": "mcp.example.com:8443"}, 200),
            ({"host": "other.example.com"}, 421),
            ({"origin": "https://app.example.com"}, 200),
            ({"origin": "http://app.example.com"}, 403),
        ):
            assert (await http.post(address, json=kit.initialize(), headers=headers)).status_code == status, headers


async def test_any_host_is_not_any_origin(build, kit):
    async with kit.serving(build(allowed_hosts=["*"])) as address, httpx2.AsyncClient(headers=kit.accept) as http:
        for host, origin, status in (
            ("mcp.example.com", None, 200),
            ("mcp.example.com", "https://mcp.example.com", 200),
            ("mcp.example.com", "https://evil.example", 403),
        ):
            headers = {"host": host} | ({"origin": origin} if origin else {})
            assert (await http.post(address, json=kit.initialize(), headers=headers)).status_code == status, headers


async def test_a_host_beyond_loopback_is_answered_under_its_own_address(build, kit):
    async with kit.serving(build(host="0.0.0.0", insecure=True)) as address, httpx2.AsyncClient() as http:
        port = address.rpartition(":")[2].partition("/")[0]
        own = _own_address()
        if own is None:
            pytest.skip("this machine has loopback only")
        url = f"http://{own}:{port}/mcp"
        assert (await http.post(url, json=kit.initialize(), headers=kit.accept)).status_code == 200
        refused = await http.post(url, json=kit.initialize(), headers={**kit.accept, "host": "evil.example"})
        assert refused.status_code == 421


def _own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = probe.getsockname()[0]
        return None if address.startswith("127.") else address


BAD_JSON = {
    "not JSON": b"{",
    "empty": b"",
    "NaN": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}',
    "duplicate key": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
    "lone surrogate": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\\ud800"}}',
    "not UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
    "129 levels": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":%b}}' % (b"[" * 127 + b"]" * 127),
    "100,000 levels": b"[" * 100_000,
    "5,000 digits": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":%b}}' % (b"9" * 5000),
}


@pytest.mark.parametrize("case", BAD_JSON)
@pytest.mark.parametrize("modern", [False, True])
async def test_bad_json_is_refused(raw, kit, case, modern):
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "ping"} if modern else {}
    begin = time.perf_counter()
    refused = await raw.post(BAD_JSON[case], **headers)
    assert time.perf_counter() - begin < 10
    assert refused.status_code == 400
    answer = refused.json()
    assert answer["id"] is None
    assert answer["error"]["code"] == -32700
    assert answer["error"]["data"]["code"] == "malformed_request"


async def test_a_body_in_pieces_is_read_whole(raw, kit):
    async def pieces():
        for byte in json.dumps(kit.call("add", a=1)).encode():
            yield bytes([byte])

    answer = await raw.http.post(raw.address, content=pieces(), headers=kit.modern("add"))
    assert answer.json()["result"]["structuredContent"]["result"] == 2


async def test_a_large_body_is_refused_at_once(raw):
    begin = time.perf_counter()
    refused = await raw.post(b"x" * 1_000_001)
    assert refused.status_code == 413
    assert time.perf_counter() - begin < 10


@pytest.mark.parametrize("body", [b"[]", b"1", b'{"jsonrpc":"2.0"}', b'{"jsonrpc":"2.0","id":1,"method":"no/such"}'])
@pytest.mark.parametrize("modern", [False, True])
async def test_malformed_messages_are_errors_of_the_caller(raw, body, modern):
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "no/such"} if modern else {}
    answer = await raw.post(body, **headers)
    assert 400 <= answer.status_code < 500
    assert "error" in answer.json()


async def test_other_addresses_are_not_found(raw):
    for path in ("/mcp/other", "/mcpx", "/"):
        answer = await raw.http.get(raw.address.removesuffix("/mcp") + path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_closed_session_makes_room(build, kit):
    async with kit.serving(build(max_concurrent_sessions=1)) as address:
        for _ in range(3):
            async with kit.connected(address, "legacy") as client:
                assert not (await client.call_tool("add", {"a": 1})).is_error


async def test_an_idle_session_ends(build, kit):
    nexus = build(mcp_session_idle_timeout=1)
    async with (
        kit.serving(nexus) as address,
        httpx2.AsyncClient(headers=kit.accept) as http,
    ):
        opened = await http.post(address, json=kit.initialize())
        headers = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await http.post(address, json=ping, headers=headers)).status_code == 200
        transport = await nexus.channel("mcp")._transport()
        await kit.until(lambda: transport.sessions == 0)
        assert (await http.post(address, json=ping, headers=headers)).status_code == 404


async def test_open_streams_do_not_delay_the_end(build, kit, caplog):
    nexus = build()
    async with (
        httpx2.AsyncClient(headers=kit.accept, timeout=30) as http,
        kit.serving(nexus) as address,
    ):
        opened = await http.post(address, json=kit.initialize())
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await http.post(address, json=ready, headers=session)
        listen = kit.call("x") | {"method": "subscriptions/listen"}
        listen["params"] = {"notifications": {"toolsListChanged": True}, "_meta": listen["params"]["_meta"]}
        modern = {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
        streams = [
            http.build_request("GET", address, headers={**session, "accept": "text/event-stream"}),
            http.build_request("POST", address, json=listen, headers=modern),
        ]
        answers = [await http.send(request, stream=True) for request in streams]
        assert [answer.status_code for answer in answers] == [200, 200]
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 10
    for answer in answers:
        await answer.aclose()
    assert [record for record in caplog.records if record.exc_info] == []


async def test_it_answers_inside_another_application(build, kit):
    """Mounted under a path of its own, where nobody sends it lifespan events."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    inner = build().asgi_app()

    async def outer(scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert scope["path"].startswith("/tools/mcp")
        await inner({**scope, "root_path": "/tools"}, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        config = Config.from_mapping(bind=[f"fd://{bound.detach()}"], accesslog=None, errorlog=None)
    stop = asyncio.Event()
    server = asyncio.create_task(serve(outer, config, shutdown_trigger=stop.wait))
    try:
        for era in ("legacy", "2026-07-28"):
            async with kit.connected(f"http://127.0.0.1:{port}/tools/mcp", era) as client:
                assert (await client.call_tool("add", {"a": 1})).structured_content["result"] == 2
    finally:
        stop.set()
        await server
        await inner({"type": "lifespan"}, _messages("lifespan.startup", "lifespan.shutdown"), _nowhere)


def _messages(*kinds):
    waiting = [{"type": kind} for kind in kinds]

    async def receive():
        return waiting.pop(0)

    return receive


async def _nowhere(message):
    pass


def test_options_from_a_configuration_object():
    config = SimpleNamespace(name="mcp", port=4001, tool_timeout=30, max_concurrent_sessions=50, middleware=None)
    from nexus_mcp.settings import McpSettings

    def settings(**options):
        nexus = Nexus(discover=False, plugins=[McpPlugin], **options)
        return nexus.settings(McpSettings)

    taken = settings(mcp_config=config)
    assert (taken.mcp_port, taken.tool_timeout, taken.max_concurrent_sessions) == (4001, 30, 50)
    with pytest.raises(
        ConfigurationError, match="argument mcp_port and port of argument mcp_config are set to different"
    ):
        settings(mcp_config=config, mcp_port=5001)
    assert settings(mcp_config={"port": 4002}).mcp_port == 4002
    with pytest.raises(ConfigurationError, match="max_concurrent_sessions"):
        settings(max_concurrent_sessions=0)
    with pytest.raises(ConfigurationError, match="argument mcp_config: must be a ChannelConfig, a mapping"):
        settings(mcp_config="mcp.json")


async def test_a_long_silent_call_sends_signs_of_life(build, kit, monkeypatch):
    """Proxies close connections on which nothing comes. The library says so after 15 seconds; here it is sooner."""
    from mcp.server import _streamable_http_modern

    monkeypatch.setattr(_streamable_http_modern, "_SSE_PING_INTERVAL", 0.05)
    async with kit.serving(build()) as address, httpx2.AsyncClient(headers=kit.accept) as http:
        answer = await http.post(address, json=kit.call("sleep", seconds=0.3), headers=kit.modern("sleep"))
    assert answer.headers["content-type"] == "text/event-stream"
    lines = answer.text.splitlines()
    assert lines.count(": ping") >= 2
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert [json.loads(each)["result"]["structuredContent"]["result"] for each in data] == ["slept"]


async def test_calls_under_way_are_answered_when_the_process_stops(build, kit, seen):
    async with httpx2.AsyncClient(headers=kit.accept) as http:
        async with kit.serving(build()) as address:
            call = http.post(address, json=kit.call("sleep", seconds=0.3), headers=kit.modern("sleep"))
            answer = asyncio.create_task(call)
            await kit.until(lambda: seen.started == 1)
        assert (await answer).json()["result"]["structuredContent"]["result"] == "slept"


async def test_stopping_while_the_library_is_loaded(build):
    nexus = build()
    async with nexus:
        loading = nexus.channel("mcp")._load()
    assert loading.done()
