"""The router and the guard in front of the channels, driven as a server drives them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nexus_core import AuthenticationError, Channel, ConfigurationError, Route, hookimpl
from nexus_core.concurrency.timers import Timers
from nexus_core.server.asgi import PathRouter, error_headers, rate_limit_headers
from nexus_core.server.caller import headers_of
from nexus_core.server.request_guard import Guard
from nexus_core.types.principal import RateLimit

DISCONNECT = {"type": "http.disconnect"}


def scope_of(path: str = "/", root: str = "", headers: Any = (), kind: str = "http", version: str = "1.1") -> Any:
    scope = {"type": kind, "path": path, "root_path": root, "http_version": version, "method": "POST"}
    return scope | {"headers": list(headers)}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def ask(app: Any, scope: Any, *messages: Any) -> list[Any]:
    """Return what an application sends. After the given messages, nothing more comes."""
    given = list(messages)
    sent: list[Any] = []

    async def receive() -> Any:
        if not given:
            await asyncio.Event().wait()
        return given.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return sent


def answering(name: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-name", name.encode())]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    return app


async def answer_to(router: PathRouter, path: str, root: str = "") -> str | None:
    sent = await ask(router, scope_of(path, root))
    return dict(sent[0]["headers"])[b"x-name"].decode() if sent[0]["status"] == 200 else None


@pytest.mark.parametrize(
    ("path", "root", "alone", "beside"),
    [
        ("/mcp", "", "/mcp", "/mcp"), ("/mcp/", "", "/mcp", "/mcp"), ("/mcp/a", "", "/mcp", "/mcp"),
        ("/mcpx", "", None, "/"), ("/mcp.json", "", None, "/"), ("/MCP", "", None, "/"), ("//mcp", "", None, "/"),
        ("/mcp/deep", "", "/mcp/deep", "/mcp/deep"), ("/mcp/deeper", "", "/mcp", "/mcp"),
        ("/cli", "", "/cli/", "/cli/"),
        ("/", "", None, "/"), ("", "", None, "/"), ("*", "", None, None), ("/x/../mcp", "", None, "/"),
        ("/base/mcp", "/base", "/mcp", "/mcp"), ("/base/mcpx", "/base", None, "/"), ("/base", "/base", None, "/"),
        ("/mcp/mcp", "/mcp", "/mcp", "/mcp"), ("/basement/mcp", "/base", None, "/"),
    ],
)  # fmt: skip
async def test_the_longest_prefix_of_whole_segments_answers(
    path: str, root: str, alone: str | None, beside: str | None
) -> None:
    prefixes = ["/mcp", "/mcp/deep", "/cli/"]
    assert await answer_to(PathRouter((each, answering(each)) for each in prefixes), path, root) == alone
    assert await answer_to(PathRouter((each, answering(each)) for each in ["/", *prefixes]), path, root) == beside


async def test_applications_see_the_whole_path() -> None:
    sent = await ask(PathRouter([("/mcp", answering("mcp"))]), scope_of("/base/mcp/a", "/base"))
    assert sent[1]["body"] == b"/base/mcp/a"


async def test_a_websocket_that_leads_nowhere_is_closed() -> None:
    sent = await ask(PathRouter(()), scope_of(kind="websocket"))
    assert [message["type"] for message in sent] == ["websocket.close"]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def guarded(
    app: Any, headers: Any, *messages: Any, version: str = "1.1", timeout: float = 30.0
) -> tuple[int, Any]:
    guard = Guard(app, Timers(), 10, timeout)
    sent = await ask(guard, scope_of(headers=headers, version=version), *messages)
    if not sent:
        return 0, None
    ends = [message for message in sent[1:] if not message.get("more_body")]
    assert len(ends) == 1, "an answer ends once"
    assert ends[0] is sent[-1]
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])


LENGTH, CHUNKED = b"content-length", (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    ("headers", "messages", "status"),
    [
        ([(LENGTH, b"3")], [part(b"abc")], 200), ([(LENGTH, b"10")], [part(b"a" * 10)], 200), ([], [part(b"")], 200),
        ([CHUNKED], [part(b"a" * 5, more=True), part(b"a" * 5)], 200),
        ([CHUNKED], [part(b"a" * 6, more=True), part(b"a" * 6)], 413), ([(LENGTH, b"11")], [part(b"a" * 11)], 413),
        ([(LENGTH, b"3"), CHUNKED], [part(b"abc")], 400), ([CHUNKED, (LENGTH, b"0")], [part(b"")], 400),
        ([(LENGTH, b"3"), (LENGTH, b"30")], [part(b"abc")], 400),
        ([(LENGTH, b"30"), (LENGTH, b"3")], [part(b"abc")], 400),
        ([(LENGTH, b"-1")], [part(b"")], 400), ([(LENGTH, b"+3")], [part(b"abc")], 400),
        ([(LENGTH, b" 3")], [part(b"abc")], 400),
        ([(LENGTH, b"9" * 40)], [part(b"")], 400), ([(LENGTH, "٣".encode())], [part(b"abc")], 400),
        ([(LENGTH, b"")], [part(b"")], 400),
        ([(LENGTH, b"3")], [part(b"a", more=True), DISCONNECT], 0),
    ],
)  # fmt: skip
async def test_bodies_are_bounded_and_unambiguous(headers: Any, messages: Any, status: int) -> None:
    found, body = await guarded(echo, headers, *messages, DISCONNECT)
    assert found == status
    if status >= 400:
        assert json.loads(body)["status"] == status
    elif status:
        assert body == b"".join(message["body"] for message in messages)


async def test_without_any_header_http_2_bodies_are_bounded() -> None:
    found, _ = await guarded(echo, [], part(b"a" * 6, more=True), part(b"a" * 6), DISCONNECT, version="2")
    assert found == 413


@pytest.mark.parametrize("messages", [[], [part(b"a", more=True)]])
async def test_a_body_that_does_not_arrive_is_given_up(messages: Any) -> None:
    found, body = await guarded(echo, [(LENGTH, b"3")], *messages, timeout=0.1)
    assert found == 408
    assert "body_timeout" in json.loads(body)["detail"]


async def test_an_application_can_not_answer_for_a_body_that_was_refused() -> None:
    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
        except BaseException:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    assert (await guarded(stubborn, [(LENGTH, b"3")], timeout=0.1))[0] == 408


async def test_a_caller_that_is_cancelled_stays_cancelled() -> None:
    guard = Guard(echo, Timers(), 10, 30)
    task = asyncio.create_task(ask(guard, scope_of(headers=[(LENGTH, b"3")])))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_crash_is_an_answer_without_its_text() -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a secret")

    for headers, messages in (([], []), ([(LENGTH, b"3")], [part(b"abc")])):
        found, body = await guarded(crash, headers, *messages)
        assert found == 500
        assert b"secret" not in body


async def test_a_crash_costs_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("out of order")

    guard = Guard(crash, Timers(), 10, 30)
    for _ in range(100):
        await ask(guard, scope_of(headers=[]))
    (record,) = caplog.records
    assert "raised on /" in record.getMessage()
    assert "ValueError: out of order (test_asgi.py:" in record.getMessage()
    assert record.exc_info is None


class Door(Channel):
    name, paths = "door", ("/door",)

    def __init__(self) -> None:
        self.calls: list[str] = []

    def asgi_app(self) -> Any:
        self.calls.append("app")
        return answering("door")

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")


class DoorPlugin:
    def __init__(self) -> None:
        self.door = Door()

    @hookimpl
    def nexus_register_channels(self) -> list[Channel]:
        return [self.door]

    @hookimpl
    def nexus_register_routes(self) -> list[Route]:
        return [Route("/door/side", answering("side"), "door")]


async def test_a_mounted_platform_starts_at_the_first_request(make: Any) -> None:
    plugin = DoorPlugin()
    nexus = make(plugin)
    app = nexus.asgi_app()
    assert plugin.door.calls == []
    for path, name in (("/door", b"door"), ("/door/side", b"side"), ("/door/sides", b"door")):
        sent = await ask(app, scope_of(path))
        assert sent[0]["headers"] == [(b"x-name", name)]
    assert (await ask(app, scope_of("/else")))[0]["status"] == 404
    assert plugin.door.calls == ["start", "app"]
    await nexus.__aexit__()
    assert plugin.door.calls == ["start", "app", "stop"]


class Naming:
    """Gives middleware that says its name at the end of the list of them."""

    def __init__(self, name: str, *, wrap: Any = None) -> None:
        self.name = self.__name__ = name
        self.given = [wrap or self.wrap]

    def wrap(self, app: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            async def named(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-passed", self.name.encode())]
                await send(message)

            await app(scope, receive, named)

        return answer

    @hookimpl
    def nexus_register_middleware(self) -> Any:
        return self.given


async def test_middleware_stands_in_front_of_every_address(make: Any) -> None:
    plugin = Naming("outer")
    plugin.given.append(Naming("inner").wrap)
    nexus = make(DoorPlugin(), plugin)
    app = nexus.asgi_app()
    for path in ("/door", "/door/side", "/else"):
        sent = await ask(app, scope_of(path))
        assert [value for name, value in sent[0]["headers"] if name == b"x-passed"] == [b"inner", b"outer"]
    await nexus.__aexit__()


def fails(_: Any) -> Any:
    raise ValueError("out of order")


@pytest.mark.parametrize("broken", [fails, lambda app: None, lambda: None])
async def test_middleware_that_fails_is_left_out_with_its_plugin(make: Any, broken: Any) -> None:
    nexus = make(DoorPlugin(), Naming("broken", wrap=broken), Naming("whole"))
    sent = await ask(nexus.asgi_app(), scope_of("/door"))
    assert [value for name, value in sent[0]["headers"] if name == b"x-passed"] == [b"whole"]
    assert "middleware" in next(record.reason for record in nexus.plugins.records if record.reason)
    await nexus.__aexit__()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"api.example.com", "https://api.example.com"),
        (b"localhost:8000", "https://localhost:8000"),
        (b"[::1]:80", "https://[::1]:80"),
        (b'a", error="x', "https://10.0.0.1:443"),
        (b"a\r\nx: y", "https://10.0.0.1:443"),
        (b"", "https://10.0.0.1:443"),
    ],
)
def test_a_challenge_names_the_origin_that_was_used_and_repeats_nothing_else(host: bytes, origin: str) -> None:
    scope = scope_of() | {"scheme": "https", "headers": [(b"host", host)], "server": ("10.0.0.1", 443)}
    error = AuthenticationError("Who?", challenge='Bearer resource_metadata="{origin}/x"', retry_after=0.2)
    assert error_headers(error, scope) == [
        (b"retry-after", b"1"), (b"www-authenticate", f'Bearer resource_metadata="{origin}/x"'.encode()),
    ]  # fmt: skip


def test_a_challenge_names_the_path_that_the_platform_is_mounted_at() -> None:
    scope = scope_of() | {"headers": [(b"host", b"a.example")], "root_path": '/my "nexus"\r\n/'}
    ((_, challenge),) = error_headers(AuthenticationError("Who?", challenge="{origin}/x"), scope)
    assert challenge == b"http://a.example/my%20%22nexus%22%0D%0A/x"


def test_headers_that_come_several_times_are_one_list() -> None:
    once = scope_of(headers=[(b"a", b"1"), (b"b", b"2")])
    assert headers_of(once) == {b"a": b"1", b"b": b"2"}
    sent = [
        (b"x-forwarded-for", b"1.1.1.1"),
        (b"cookie", b"a=1"),
        (b"x-forwarded-for", b"2.2.2.2"),
        (b"cookie", b"b=2"),
    ]
    assert headers_of(scope_of(headers=sent)) == {b"x-forwarded-for": b"1.1.1.1, 2.2.2.2", b"cookie": b"a=1; b=2"}


def test_what_is_left_of_a_budget_is_told_in_headers() -> None:
    assert rate_limit_headers(None) == []
    assert rate_limit_headers(RateLimit(limit=10, window=60.0, remaining=3, reset=20.4)) == [
        (b"ratelimit-policy", b'"default";q=10;w=60'), (b"ratelimit", b'"default";r=3;t=21'),
    ]  # fmt: skip


class Stubborn:
    """Fails to start until it is told otherwise, and takes a moment for it."""

    def __init__(self) -> None:
        self.reason: Exception | None = ConfigurationError("There is no disk.")
        self.attempts = 0

    @hookimpl
    async def nexus_startup(self) -> None:
        self.attempts += 1
        await asyncio.sleep(0)
        if self.reason is not None:
            raise self.reason


@pytest.fixture
def stubborn(make: Any) -> Any:
    plugin = Stubborn()
    plugin.nexus = make(plugin, DoorPlugin())  # type: ignore[attr-defined]
    return plugin


async def test_a_mounted_platform_that_does_not_start_is_no_failure_of_the_application_around(
    stubborn: Any, caplog: Any, monkeypatch: Any
) -> None:
    app = stubborn.nexus.asgi_app()
    for _ in range(3):
        (start, body) = await ask(app, scope_of("/door"))
        assert start["status"] == 503
        headers = dict(start["headers"])
        assert headers[b"content-type"] == b"application/problem+json"
        assert headers[b"retry-after"] == b"1"
        problem = json.loads(body["body"])
        assert problem["code"] == "overloaded"
        assert "no disk" not in problem["detail"], "that is for the operator"
    (refusal,) = await ask(app, scope_of("/door", kind="websocket"))
    assert refusal["type"] == "websocket.close"
    assert stubborn.attempts == 1, "the next one waits a moment"
    monkeypatch.setattr("nexus_core.server.asgi.RETRY_SECONDS", 0.0)
    app = stubborn.nexus.asgi_app()
    caplog.clear()
    for _ in range(3):
        assert (await ask(app, scope_of("/door")))[0]["status"] == 503
    assert stubborn.attempts == 4
    (complaint,) = [record for record in caplog.records if record.name == "nexus_core.server.asgi"]
    assert "no disk" in complaint.getMessage()
    stubborn.reason = None
    assert (await ask(app, scope_of("/door")))[0]["status"] == 200
    await stubborn.nexus.__aexit__()


async def test_requests_that_come_while_it_starts_share_what_becomes_of_it(stubborn: Any) -> None:
    app = stubborn.nexus.asgi_app()
    answers = await asyncio.gather(*(ask(app, scope_of("/door")) for _ in range(10)))
    assert [sent[0]["status"] for sent in answers] == [503] * 10
    assert stubborn.attempts == 1


async def test_a_request_after_the_servers_end_starts_nothing(make: Any) -> None:
    plugin = DoorPlugin()
    app = make(plugin).asgi_app()
    life = [{"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    for lives in (1, 2):
        await ask(app, *life)
        assert (await ask(app, scope_of("/door")))[0]["status"] == 503
        assert plugin.door.calls == ["start", "app", "stop"] * lives


async def test_a_server_with_lifespan_starts_and_stops_it(make: Any) -> None:
    plugin = DoorPlugin()
    app = make(plugin).asgi_app()
    sent = await ask(app, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert plugin.door.calls == ["start", "app", "stop"]


async def test_a_server_with_lifespan_is_told_why_it_does_not_start(make: Any) -> None:
    class Broken:
        @hookimpl
        async def nexus_startup(self) -> None:
            raise OSError("no disk")

        @hookimpl
        def nexus_register_routes(self) -> list[Any]:
            return []

    app = make(Broken(), required_plugins=["Broken"]).asgi_app()
    sent = await ask(app, {"type": "lifespan"}, {"type": "lifespan.startup"})
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "no disk" in sent[0]["message"]
