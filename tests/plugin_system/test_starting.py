"""What becomes of plugins that fail while the platform starts or stops."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from nexus_core import (
    Channel,
    ChannelEvent,
    ConfigurationError,
    Invocation,
    Nexus,
    PluginError,
    PortInUse,
    Route,
    Stage,
    hookimpl,
)
from nexus_core.state.memory_store import MemoryStore
from nexus_core.state.stored_sessions import StoredSessions
from nexus_core.testing import stages_of

OK, NOT_FOUND = 200, 404
NO_SERVER = "none of them"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with nothing in it."""
    await send({"type": "http.response.start", "status": OK, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class LoggingChannel(Channel):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self._log = name, log
        self.paths = (f"/{name}",)

    def asgi_app(self) -> Any:
        return application

    async def start(self) -> None:
        self._log.append(f"start {self.name}")

    async def stop(self) -> None:
        self._log.append(f"stop {self.name}")


class Resolver:
    def __init__(self, log: list[str], name: str) -> None:
        self._log, self._name = log, name

    def resolve_parameters(self, workflow_name: str, channel: str, raw_params: dict[str, Any]) -> dict[str, Any]:
        self._log.append(f"resolve {self._name}")
        return raw_params


class Full:
    """A plugin that gives everything, and can be told where to fail."""

    def __init__(self, name: str, log: list[str], **fails: Any) -> None:
        self.__name__, self.log, self.fails = name, log, fails

    def give(self, hook: str, *items: Any) -> Any:
        if hook in self.fails:
            return self.fails[hook]()
        return list(items)

    @hookimpl
    def nexus_register_interceptors(self, nexus: Nexus) -> Any:
        return self.give("interceptors", self)

    stage = Stage.OBSERVE

    async def __call__(self, invocation: Invocation, call_next: Any) -> Any:
        self.log.append(f"intercept {self.__name__}")
        return await call_next(invocation)

    @hookimpl
    def nexus_register_parameter_resolvers(self, nexus: Nexus) -> Any:
        return self.give("parameter_resolvers", Resolver(self.log, self.__name__))

    @hookimpl
    def nexus_register_session_stores(self, nexus: Nexus) -> Any:
        return self.give("session_stores")

    @hookimpl
    def nexus_register_event_handlers(self, nexus: Nexus) -> Any:
        return self.give("event_handlers", self.handle)

    async def handle(self, event: ChannelEvent) -> None:
        self.log.append(f"event {self.__name__}")

    @hookimpl
    def nexus_register_routes(self, nexus: Nexus) -> Any:
        return self.give("routes", Route(f"/{self.__name__}/route", application))

    name = property(lambda self: self.fails.get("server_name", self.__name__))

    async def serve(self, listeners: Any, started: asyncio.Event, stop: asyncio.Event) -> None:
        started.set()
        await stop.wait()

    @hookimpl
    def nexus_register_servers(self, nexus: Nexus) -> Any:
        return self.give("servers", self)

    @hookimpl
    def nexus_register_channels(self, nexus: Nexus) -> Any:
        return self.give("channels", LoggingChannel(f"{self.__name__}-channel", self.log))

    @hookimpl
    async def nexus_startup(self, nexus: Nexus) -> None:
        self.log.append(f"startup {self.__name__}")
        if "startup" in self.fails:
            await self.fails["startup"]()

    @hookimpl
    async def nexus_shutdown(self, nexus: Nexus) -> None:
        self.log.append(f"shutdown {self.__name__}")
        if "shutdown" in self.fails:
            await self.fails["shutdown"]()


def raises() -> Any:
    raise ValueError("out of order")


async def raises_async() -> None:
    raise ValueError("out of order")


def exits() -> Any:
    raise SystemExit(3)


async def exits_async() -> None:
    raise SystemExit(3)


def hangs() -> Any:
    threading.Event().wait(30)


async def hangs_async() -> None:
    await asyncio.Event().wait()


async def refuses_to_stop() -> None:
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            continue


def broken_generator() -> Any:
    yield from ()
    raise ValueError("out of order")


class FailingChannel(LoggingChannel):
    def __init__(self, log: list[str], fail: Any) -> None:
        super().__init__("failing", log)
        self._fail = fail

    async def start(self) -> None:
        await self._fail()


class UselessChannel(LoggingChannel):
    def asgi_app(self) -> Any:
        raise ValueError("no application")


HOOKS = ["interceptors", "parameter_resolvers", "session_stores", "event_handlers", "routes", "servers", "channels"]
REASONS = {
    raises: "ValueError: out of order",
    exits: "SystemExit(3)",
    hangs: "did not end within 0.3 s",
    broken_generator: "ValueError: out of order",
    raises_async: "ValueError: out of order",
    exits_async: "SystemExit(3)",
    hangs_async: "did not end within 0.3 s",
    refuses_to_stop: "did not end within 0.3 s",
}


def reason(nexus: Nexus, name: str) -> str:
    return nexus.plugins.inactive()[name]


async def check_that_only_good_is_there(nexus: Nexus, log: list[str]) -> None:
    """Use everything the good plugin gives, and find nothing of the bad one."""
    nexus.register("w", lambda: 1)
    assert (await nexus.invoke("w")).value == 1
    deadline = time.monotonic() + 5
    while "event good" not in log:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    assert {"intercept good", "resolve good", "startup good", "start good-channel"} <= set(log)
    assert not {"intercept bad", "resolve bad", "event bad"} & set(log)
    assert log.count("start bad-channel") == log.count("stop bad-channel")
    assert [channel.name for channel in nexus.channels] == ["good-channel"]
    assert nexus.channel("bad-channel") is None
    assert await status(nexus, "/good/route") == OK
    assert await status(nexus, "/bad/route") == NOT_FOUND
    assert nexus.plugins.active() == ["good"]


async def check_that_only_good_can_serve(nexus: Nexus) -> None:
    """Ask for a server that is not there: the error names those that are."""
    with pytest.raises(ConfigurationError, match=rf"no server '{NO_SERVER}'; installed plugins provide: good\.$"):
        await nexus.serving().__aenter__()


async def status(nexus: Nexus, path: str) -> int:
    """The status with which an address answers."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "scheme": "http",
             "http_version": "1.1", "root_path": "", "client": ("127.0.0.1", 1)}  # fmt: skip
    await nexus.asgi_app()(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize("fail", [raises, exits, hangs, broken_generator], ids=lambda each: each.__name__)
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_plugin_that_fails_in_a_registering_hook_is_taken_out_whole(
    make: Any, hook: str, fail: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    nexus = make(Full("bad", log, **{hook: fail}), Full("good", log), plugin_timeout=0.3, server=NO_SERVER)
    async with nexus:
        assert f"nexus_register_{hook} failed" in reason(nexus, "bad")
        assert REASONS[fail] in reason(nexus, "bad")
        assert reason(nexus, "bad") in caplog.text
        assert log.count("shutdown bad") == 1  # its startup had succeeded
        await check_that_only_good_is_there(nexus, log)
    assert log.count("shutdown bad") == 1
    assert log.count("shutdown good") == log.count("stop good-channel") == 1
    log.clear()
    async with nexus:
        await nexus.invoke("w")
    assert not [line for line in log if "bad" in line]
    await check_that_only_good_can_serve(nexus)


@pytest.mark.parametrize("fail", [raises_async, exits_async, hangs_async, refuses_to_stop], ids=lambda f: f.__name__)
async def test_a_plugin_that_does_not_start_is_taken_out_whole(make: Any, fail: Any) -> None:
    log: list[str] = []
    nexus = make(Full("bad", log, startup=fail), Full("good", log), plugin_timeout=0.3, server=NO_SERVER)
    async with nexus:
        assert "nexus_startup failed" in reason(nexus, "bad")
        assert REASONS[fail] in reason(nexus, "bad")
        await check_that_only_good_is_there(nexus, log)
    assert "shutdown bad" not in log
    await check_that_only_good_can_serve(nexus)


async def test_a_sync_startup_may_block_and_is_left_behind(make: Any) -> None:
    class Slow:
        @hookimpl
        def nexus_startup(self, nexus: Nexus) -> None:
            hangs()

    log: list[str] = []
    async with make(Slow(), Full("good", log), plugin_timeout=0.3, server=NO_SERVER) as nexus:
        assert "did not end within 0.3 s" in reason(nexus, "Slow")
        await check_that_only_good_is_there(nexus, log)
    await check_that_only_good_can_serve(nexus)


@pytest.mark.parametrize("fail", [raises_async, exits_async, hangs_async, refuses_to_stop], ids=lambda f: f.__name__)
async def test_a_plugin_whose_channel_does_not_start_is_taken_out_whole(make: Any, fail: Any) -> None:
    log: list[str] = []

    def channels() -> list[Channel]:
        return [LoggingChannel("bad-channel", log), FailingChannel(log, fail), LoggingChannel("never", log)]

    nexus = make(Full("good", log), Full("bad", log, channels=channels), plugin_timeout=0.3, server=NO_SERVER)
    async with nexus:
        assert "starting its channel 'failing' failed" in reason(nexus, "bad")
        assert REASONS[fail] in reason(nexus, "bad")
        assert log.index("start bad-channel") < log.index("stop bad-channel") < log.index("shutdown bad")
        assert "start never" not in log
        await check_that_only_good_is_there(nexus, log)
    assert log.count("stop bad-channel") == log.count("shutdown bad") == 1
    await check_that_only_good_can_serve(nexus)


async def test_a_channel_without_an_application_of_use(make: Any) -> None:
    log: list[str] = []
    nexus = make(
        Full("bad", log, channels=lambda: [UselessChannel("bad-channel", log)]), Full("good", log), server=NO_SERVER
    )
    async with nexus:
        assert "no application" in reason(nexus, "bad")
        await check_that_only_good_is_there(nexus, log)
    await check_that_only_good_can_serve(nexus)


class StageInWords:
    stage = "observe"

    async def __call__(self, invocation: Invocation, call_next: Any) -> Any: ...


@pytest.mark.parametrize(
    ("hook", "item", "words"),
    [
        ("interceptors", 42, "a int without 'stage'"),
        ("interceptors", StageInWords(), "whose stage is 'observe'"),
        ("event_handlers", "print", "a str that can't be called"),
        ("channels", object(), "a object without 'name'"),
        ("servers", object(), "a object without 'name'"),
        ("routes", ("/path", application), "a tuple without 'path'"),
        ("parameter_resolvers", raises, "a function without 'resolve_parameters'"),
        ("session_stores", {}, "a dict without 'create'"),
    ],
)
async def test_a_contribution_of_the_wrong_kind(make: Any, hook: str, item: Any, words: str) -> None:
    log: list[str] = []
    nexus = make(Full("bad", log, **{hook: lambda: [item]}), Full("good", log), server=NO_SERVER)
    async with nexus:
        assert words in reason(nexus, "bad")
        await check_that_only_good_is_there(nexus, log)
    await check_that_only_good_can_serve(nexus)


@pytest.mark.parametrize("kind", ["channel", "server"])
async def test_two_plugins_with_one_name(make: Any, kind: str) -> None:
    log: list[str] = []
    fails = {
        "channel": {"channels": lambda: [LoggingChannel("good-channel", log)]},
        "server": {"server_name": "good"},
    }[kind]
    nexus = make(Full("bad", log, **fails), Full("good", log), server=NO_SERVER)  # the last given is called first
    async with nexus:
        name = {"channel": "good-channel", "server": "good"}[kind]
        assert f"both provide the {kind} '{name}'" in reason(nexus, "bad")
        await check_that_only_good_is_there(nexus, log)
    await check_that_only_good_can_serve(nexus)


STARTS_THAT_FAIL = {
    "interceptors": raises,
    "startup": raises_async,
    "channels": lambda: [FailingChannel([], raises_async)],
}


@pytest.mark.parametrize("where", STARTS_THAT_FAIL)
@pytest.mark.parametrize("option", [{"required_plugins": ["auth"]}, {"enable_auth": True}], ids=["required", "guard"])
@pytest.mark.parametrize("order", ["first", "last"])
async def test_a_required_plugin_that_fails_stops_the_start_and_nothing_stays(
    where: str, option: dict[str, Any], order: str
) -> None:
    log: list[str] = []
    plugins: list[Any] = [Full("auth", log, **{where: STARTS_THAT_FAIL[where]}), Options(), Full("good", log)]
    nexus = Nexus(discover=False, plugins=plugins if order == "first" else plugins[::-1], **option)
    for _ in range(2):  # a second start, such as the next request's, is refused too
        with pytest.raises(PluginError, match='required plugin "auth" is not active'):
            await nexus.__aenter__()
        assert not stages_of(nexus)
        assert log.count("start good-channel") == log.count("stop good-channel")
        assert log.count("startup good") == log.count("shutdown good")
        assert log.count("startup auth") == log.count("shutdown auth") + (where == "startup")
        nexus.register("w", lambda: 1, replace=True)
        with pytest.raises(PluginError, match='required plugin "auth" is not active'):
            await nexus.invoke("w")  # fails closed


class Options:
    @hookimpl
    def nexus_register_settings(self) -> Any:
        from nexus_core import PluginSettings

        class Settings(PluginSettings):
            enable_auth: bool = False

        return Settings


@pytest.mark.parametrize("error", [ConfigurationError("api_port is odd"), PortInUse("api_port 1 is in use")])
@pytest.mark.parametrize("where", ["startup", "channels", "start of a channel"])
async def test_what_the_operator_must_mend_stops_the_start(make: Any, where: str, error: Exception) -> None:
    log: list[str] = []

    async def refuse() -> None:
        raise error

    def refuse_now() -> None:
        raise error

    fails = {
        "startup": {"startup": refuse},
        "channels": {"channels": refuse_now},
        "start of a channel": {"channels": lambda: [FailingChannel(log, refuse)]},
    }[where]
    nexus = make(Full("wrong", log, **fails), Full("good", log))
    with pytest.raises(type(error), match=str(error)):
        await nexus.__aenter__()
    assert log.count("start good-channel") == log.count("stop good-channel")
    assert log.count("startup good") == log.count("shutdown good") == 1
    assert nexus.plugins.active() == ["wrong", "good"]


async def test_two_session_stores_stop_the_start(make: Any) -> None:
    log: list[str] = []
    plugins = [
        Full(name, log, session_stores=lambda: [StoredSessions(MemoryStore(), print)]) for name in ("one", "two")
    ]
    nexus = make(*plugins)
    with pytest.raises(ConfigurationError, match="2 plugins each provide a session store"):
        await nexus.__aenter__()
    for name in ("one", "two"):
        assert log.count(f"stop {name}-channel") == log.count(f"shutdown {name}") == 1


@pytest.mark.parametrize("fail", [raises_async, exits_async, hangs_async, refuses_to_stop], ids=lambda f: f.__name__)
async def test_a_plugin_that_does_not_stop_keeps_nobody_from_stopping(
    make: Any, fail: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []

    class Lasting(LoggingChannel):
        async def stop(self) -> None:
            await fail()

    bad = Full("bad", log, shutdown=fail, channels=lambda: [Lasting("bad-channel", log)])
    nexus = make(Full("good", log), bad, Full("other", log), plugin_timeout=0.3)
    with caplog.at_level(logging.ERROR):
        async with nexus:
            pass
    assert {"stop good-channel", "stop other-channel", "shutdown good", "shutdown bad", "shutdown other"} <= set(log)
    assert "nexus_shutdown failed" in caplog.text
    assert "stopping its channel 'bad-channel' failed" in caplog.text
    assert nexus.plugins.active() == ["good", "bad", "other"]


async def test_the_event_loop_is_free_while_a_hook_blocks(make: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow:
        @hookimpl
        def nexus_register_channels(self, nexus: Nexus) -> list[Channel]:
            entered.set()
            assert leave.wait(10)
            return []

    nexus = make(Slow())
    starting = asyncio.create_task(nexus.__aenter__())
    while not entered.is_set():
        await asyncio.sleep(0.005)
    leave.set()  # only a free loop gets here
    await starting
    assert nexus.plugins.active() == ["Slow"]
    await nexus.__aexit__()


async def test_stop_is_called_in_the_reverse_order_of_start(make: Any) -> None:
    log: list[str] = []
    async with make(Full("b", log), Full("a", log)):
        started = list(log)
    assert started == ["startup a", "startup b", "start a-channel", "start b-channel"]
    assert log[4:] == ["stop b-channel", "stop a-channel", "shutdown b", "shutdown a"]


async def test_streams_are_ended_wherever_the_platform_stops(make: Any) -> None:
    said: list[str] = []

    class Streaming(LoggingChannel):
        async def drain(self) -> None:
            said.append("drained")

        async def stop(self) -> None:
            said.append("stopped")

    class Streams:
        @hookimpl
        def nexus_register_channels(self) -> list[Channel]:
            return [Streaming("streaming", [])]

    async with make(Streams()):
        pass
    assert said == ["drained", "stopped"]


GUARD = """
from nexus_core import PluginSettings, Stage

class Settings(PluginSettings):
    corp_access: bool = False

@hookimpl
def nexus_register_settings():
    return Settings
"""
ASKS = """
class Asks:
    stage = Stage.AUTHENTICATE
    async def __call__(self, invocation, call_next):
        return await call_next(invocation)

@hookimpl
def nexus_register_interceptors(nexus):
    return [Asks()]
"""


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("raise ValueError('broken')", "its import failed: ValueError: broken"),
        (GUARD, 'The plugin "corp" guards access, but has neither an interceptor nor an authorizer'),
        (GUARD + ASKS, ""),
    ],
)
async def test_a_plugin_may_declare_that_it_guards_access(site: Any, platform: Any, code: str, complaint: str) -> None:
    site.add("corp", code, guard="corp_access")
    if not complaint:
        async with platform(corp_access=True) as nexus:
            assert nexus.guards == {"corp"}
        async with platform() as nexus:
            assert nexus.guards == set()
        with pytest.raises(PluginError, match='"corp" is not active: disabled'):
            platform(corp_access=True, disabled=("corp",))
        return
    with pytest.raises(PluginError, match=complaint):
        async with platform(corp_access=True):
            raise AssertionError("it has started")
