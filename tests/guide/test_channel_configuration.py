"""Pattern 3: each field of the three channels' configurations has an effect."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import httpx2
import pytest
from guide_callers import CHANNELS, Client
from guide_text import run, served

from nexus_core import ChannelConfig, ConfigurationError, Context, Nexus
from nexus_core.testing import eventually

HEADING = "Pattern 3: Custom Channel Configuration"
ORIGIN = "https://app.example.com"
SECRET = "a secret of the guide's tests, long enough for HS256"


@pytest.fixture
def nexus(environment: Any, issuer: Any) -> Nexus:
    environment(
        jwt_secret=SECRET, oauth2_introspection_url=f"{issuer.url}/introspect", auth_allow_http="true",
        oauth2_client_id="nexus",
        oauth2_client_secret="of the client", rate_limit_per_minute=1000,
    )  # fmt: skip
    nexus: Nexus = run(HEADING)["nexus"]

    @nexus.workflow
    async def large() -> str:
        return "nexus " * 10_000

    return nexus


@pytest.fixture
def token() -> str:
    from token_issuer import secret_token

    return secret_token(SECRET)


def option(nexus: Nexus, name: str) -> Any:
    return next(getattr(model, name) for model in nexus.every_settings if name in type(model).model_fields)


def test_ports_and_classes_are_those_of_the_channels(nexus: Nexus) -> None:
    assert [option(nexus, f"{channel}_port") for channel in CHANNELS] == [8000, 8001, 3001]


async def test_the_guides_classes_are_those_of_the_channels(nexus: Nexus) -> None:
    space = run(HEADING)
    async with nexus:
        assert isinstance(nexus.channel("api"), space["APIChannel"])
        assert isinstance(nexus.channel("cli"), space["CLIChannel"])
        assert isinstance(nexus.channel("mcp"), space["MCPChannel"])


async def test_names_are_what_clients_see(nexus: Nexus, token: str) -> None:
    async with served(nexus) as urls:
        document = (await Client(urls, token).http("GET", "/openapi.json")).json()
        assert document["info"]["title"] == "enterprise_api"
        discovered = await Client(urls, token).mcp_request("server/discover")
    assert "enterprise_mcp" in str(discovered["result"])
    assert option(nexus, "cli_name") == "enterprise_cli"


# The API's


async def test_pages_of_that_origin_may_call_and_no_others(nexus: Nexus, token: str) -> None:
    async with served(nexus) as urls:
        caller = Client(urls, token)
        for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example.com", None)):
            answer = await caller.http("POST", "/api/workflows/large/execute", json={}, headers={"origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert answer.status_code == (200 if allowed else 403)


async def test_auth_and_rate_limit_hold_on_every_channel(nexus: Nexus, token: str, issuer: Any) -> None:
    opaque = issuer.introspected("an-opaque-token")  # the provider oauth2 asks the issuer; jwt checks by itself
    async with served(nexus) as urls:
        for channel in CHANNELS:
            assert (await Client(urls).call(channel, "large", {})).code == "authentication_failed"
            for each in (token, opaque):
                assert len((await Client(urls, each).call(channel, "large", {})).result) == 60_000
        answer = await Client(urls, token).api("large", {})
    assert "1000" in answer.headers["ratelimit-policy"]
    assert issuer.asked["/introspect"] == 2  # once for each credential, in the order of the providers
    assert nexus.rate_limiter.strategy == "sliding_window"


async def test_with_rate_limit_in_front_of_auth_refused_calls_count(environment: Any, token: str) -> None:
    environment(jwt_secret=SECRET, rate_limit_per_minute=3)
    for middleware, codes in (
        (["rate_limit", "auth"], ["authentication_failed"] * 3 + ["rate_limited"] * 2),
        (["auth", "rate_limit"], ["authentication_failed"] * 5),
    ):
        nexus = Nexus(api_config=ChannelConfig(middleware=middleware))
        nexus.register("one", lambda: 1)
        async with served(nexus) as urls:
            assert [(await Client(urls, "wrong").api("one", {})).code for _ in codes] == codes
            assert (await Client(urls, token).mcp("one", {})).code == (
                "rate_limited" if middleware[0] == "rate_limit" else None
            )


async def test_in_front_of_auth_each_call_counts_once_on_every_channel(environment: Any, token: str) -> None:
    environment(jwt_secret=SECRET, rate_limit_per_minute=6)
    nexus = Nexus(api_config={"middleware": ["rate_limit", "auth"]})
    nexus.register("one", lambda: 1)
    async with served(nexus) as urls:
        caller = Client(urls, token)
        for channel in CHANNELS * 2:
            assert (await caller.call(channel, "one", {})).result == 1
        assert (await caller.api("one", {})).code == "rate_limited"


async def test_compression_and_its_level(nexus: Nexus, token: str) -> None:
    sizes = {}
    for level in (6, 1):
        chosen = nexus if level == 6 else Nexus(api_config={"compression_level": 1})
        if level == 1:
            chosen.register("large", lambda: "nexus " * 10_000)
        async with served(chosen) as urls, httpx2.AsyncClient() as client:
            headers = {"accept-encoding": "gzip", **Client(urls, token).headers}
            url = f"{urls['api']}/api/workflows/large/execute"
            async with client.stream("POST", url, json={}, headers=headers) as answer:
                assert answer.headers["content-encoding"] == "gzip"
                sizes[level] = len(b"".join([piece async for piece in answer.aiter_raw()]))
    assert sizes[6] < sizes[1] < 60_000


async def test_a_list_without_compression_and_cors_has_neither() -> None:
    nexus = Nexus(api_config={"middleware": ["logging"]})
    nexus.register("large", lambda: "nexus " * 10_000)
    async with served(nexus) as urls:
        answer = await Client(urls).http("POST", "/api/workflows/large/execute", json={})
        assert "content-encoding" not in answer.headers
    with pytest.raises(ConfigurationError, match="cors_origins is set but api_middleware does not list cors"):
        Nexus(api_config={"middleware": ["logging"], "cors_origins": [ORIGIN]})


PREFLIGHT = {"origin": ORIGIN, "access-control-request-method": "POST"}


@pytest.mark.parametrize(
    ("middleware", "sees_preflight", "sees_compressed"),
    [
        (["cors", "compression", "logging"], False, False),
        (["logging", "cors", "compression"], True, True),
        (["compression", "logging", "cors"], True, False),
    ],
)
async def test_the_order_of_middleware(
    caplog: pytest.LogCaptureFixture, middleware: list[str], sees_preflight: bool, sees_compressed: bool
) -> None:
    caplog.set_level(logging.INFO, "nexus.access")
    nexus = Nexus(api_config=ChannelConfig(middleware=middleware, cors_origins=[ORIGIN]))
    nexus.register("large", lambda: "nexus " * 10_000)
    async with served(nexus) as urls:
        caller = Client(urls)
        await caller.http("OPTIONS", "/api/workflows/large/execute", headers=PREFLIGHT)
        assert (await caller.http("POST", "/api/workflows/large/execute?secret=x", json={})).status_code == 200
        await caller.http("GET", "/api/sessions/0123456789abcdef")
        await caller.http("GET", "/api/runs/a%0d%0aINJECTED%1b[2J")
    said = [each.getMessage() for each in caplog.records if each.name == "nexus.access"]
    assert "/api/sessions/***" in said[-2]
    assert said[-1].isprintable()
    seen = {each.http_method: each for each in caplog.records if each.name == "nexus.access"}
    assert ("OPTIONS" in seen) == sees_preflight
    assert (seen["POST"].http_bytes < 60_000) == sees_compressed
    assert seen["POST"].http_status == 200
    assert "secret" not in seen["POST"].getMessage()


async def test_middleware_of_ones_own_stands_where_it_is_named() -> None:
    def named(app: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            async def send_named(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-own", b"yes")]
                await send(message)

            await app(scope, receive, send_named)

        return answer

    for middleware, seen in (([named, "cors"], "yes"), (["cors", named], None)):
        nexus = Nexus(api_config={"middleware": middleware, "cors_origins": [ORIGIN]})
        async with served(nexus) as urls:
            answer = await Client(urls).http("OPTIONS", "/api/workflows/x/execute", headers=PREFLIGHT)
            assert answer.headers.get("x-own") == seen


# The command line's

APP = """
from nexus_core import ChannelConfig, Context, Nexus
nexus = Nexus(cli_config=ChannelConfig(**{config}))

@nexus.workflow
def count(context: Context) -> int:
    '''Count.'''
    for done in range(3):
        context.progress(done, 3, "counting")
    return 3
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that types lines into a command line on a terminal, and returns what it shows."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def typed(*arguments: str, lines: str = "", **config: Any) -> str:
        (tmp_path / "app.py").write_text(APP.replace("{config}", repr(config)))
        return in_terminal([sys.executable, "-m", "nexus_core", "--app", "app.py", *arguments], tmp_path, lines)

    return typed


def in_terminal(command: list[str], folder: Path, lines: str) -> str:
    """Run a command on a pseudo-terminal; each line is typed once there is a prompt for it."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
    process = subprocess.Popen(command, cwd=folder, stdin=side, stdout=side, stderr=side, start_new_session=True)
    os.close(side)
    shown, waiting, answered = b"", lines.splitlines(), 0
    try:
        while data := _read(main, shown):
            shown += data
            if data.count(b"\x1b[6n"):
                os.write(main, b"\x1b[1;1R")  # prompt-toolkit asks where the cursor is
            prompts = len(re.findall(rb"\x1b\[\?2004h", shown))  # each prompt begins with it
            if waiting and prompts > answered:
                answered = prompts
                os.write(main, waiting.pop(0).encode() + b"\r")
        assert process.wait(20) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(main)
    return shown.decode(errors="replace")


def _read(terminal: int, shown: bytes) -> bytes:
    assert select.select([terminal], [], [], 50)[0], shown
    try:
        return os.read(terminal, 65536)
    except OSError:  # it has ended
        return b""


COLOUR = "\x1b[36m"
BAR = "━"


def test_colours(terminal: Any) -> None:
    assert COLOUR in terminal("list", enable_colors=True)
    assert COLOUR not in terminal("list", enable_colors=False)


def test_progress_bars(terminal: Any) -> None:
    assert BAR in terminal("execute", "count", enable_progress_bars=True)
    assert BAR not in terminal("execute", "count", enable_progress_bars=False)


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"enable_history": True}, ["version", "list", "exit"]),
        ({"enable_history": False}, []),
        ({"history_size": 2}, ["list", "exit"]),
    ],
)
def test_history_and_its_size(terminal: Any, tmp_path: Path, config: dict[str, Any], kept: list[str]) -> None:
    shown = terminal("shell", lines="version\nlist\nexit", name="enterprise_cli", **config)
    assert "enterprise_cli> " in shown
    file = tmp_path / "state" / "nexus" / "history"
    if "history_size" in config:
        terminal("shell", lines="exit", **config)  # what is too much goes when the next shell begins
    found = [line[1:] for line in file.read_text().splitlines() if line.startswith("+")] if file.exists() else []
    assert found == kept


async def test_completion(tmp_path: Path) -> None:
    for is_on in (True, False):
        (tmp_path / "app.py").write_text(APP.replace("{config}", repr({"enable_shell_completion": is_on})))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus_core", "__complete", "--app", "app.py", "execute", "co", cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert (b"count" in out) == is_on


# MCP's


@pytest.mark.parametrize("is_on", [True, False])
async def test_discovery_of_tools_and_resources(is_on: bool) -> None:
    nexus = Nexus(mcp_config=ChannelConfig(enable_tool_discovery=is_on, enable_resource_discovery=is_on))
    nexus.register("one", lambda: 1)
    async with served(nexus) as urls:
        caller = Client(urls)
        listed = {
            kind: (await caller.mcp_request(f"{path}/list"))["result"][kind]
            for kind, path in (("tools", "tools"), ("resources", "resources"),
                               ("resourceTemplates", "resources/templates"))
        }  # fmt: skip
        assert [bool(each) for each in listed.values()] == [is_on] * 3
        assert (await caller.mcp("one", {})).result == 1  # whoever knows it may call it
        read = await caller.mcp_request("resources/read", uri="nexus://workflows/one")
        assert "one" in str(read["result"]["contents"])


@pytest.mark.parametrize("is_on", [True, False])
async def test_streaming(is_on: bool) -> None:
    nexus = Nexus(mcp_config=ChannelConfig(enable_streaming=is_on))

    @nexus.workflow
    async def slow(context: Context) -> int:
        context.progress(1, 2, "half")
        return 2

    async with served(nexus) as urls:
        caller = Client(urls)
        answer = await caller.http(
            "POST", "/mcp", "mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                  "params": {"name": "slow", "arguments": {},
                             "_meta": {"progressToken": 7,
                                       "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                                       "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
                                       "io.modelcontextprotocol/clientCapabilities": {}}}},
            headers={"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "slow",
                     "accept": "application/json, text/event-stream"},
        )  # fmt: skip
        assert ("notifications/progress" in answer.text) == is_on
        assert answer.headers["content-type"].startswith("text/event-stream" if is_on else "application/json")
        assert '"result":2' in answer.text.replace(" ", "")
        stream = await caller.http("GET", "/mcp", "mcp", headers={"accept": "text/event-stream"})
        assert (stream.status_code == 405) or is_on


async def test_the_session_cap_and_the_tools_time_limit(nexus: Nexus, token: str) -> None:
    assert (option(nexus, "max_concurrent_sessions"), option(nexus, "tool_timeout")) == (50, 30)
    few = Nexus(mcp_config=ChannelConfig(max_concurrent_sessions=2, tool_timeout=0.2))
    gate = asyncio.Event()

    @few.workflow
    async def hang() -> None:
        await gate.wait()

    async with served(few) as urls:
        caller = Client(urls)
        assert (await caller.mcp("hang", {})).code == "workflow_timeout"
    patient = Nexus(mcp_config=ChannelConfig(max_concurrent_sessions=2), mcp_max_sessions_per_caller=2)
    patient.register("hang", hang)
    accept = {"accept": "application/json, text/event-stream"}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "guide", "version": "0"}}
    initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hang", "arguments": {}}}
    async with served(patient) as urls:
        caller = Client(urls)
        calls = []
        for _ in range(2):
            opened = await caller.http("POST", "/mcp", "mcp", json=initialize, headers=accept)
            in_session = {**accept, "mcp-session-id": opened.headers["mcp-session-id"]}
            calls.append(asyncio.create_task(caller.http("POST", "/mcp", "mcp", json=call, headers=in_session)))
        await eventually(lambda: patient.places_in_use == 2)
        refused = await caller.http("POST", "/mcp", "mcp", json=initialize, headers=accept)
        assert refused.status_code == 429
        gate.set()
        await asyncio.gather(*calls)
        assert (await caller.http("POST", "/mcp", "mcp", json=initialize, headers=accept)).status_code == 200
