"""What a platform tells of itself: measurements, health checks, metrics collectors, traces, log handlers."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import Any

import pytest

from nexus_core import Channel, ConfigurationError, Context, EventHandler, Stage, hookimpl
from nexus_core.testing import eventually
from nexus_core.types.health import HealthCheck
from nexus_core.types.measurement import Measurement
from nexus_core.types.trace import current_trace, span, trace_headers


def read(nexus: Any, name: str) -> dict[tuple[str, ...], float]:
    (found,) = [each for each in nexus.measurements() if each.name == name]
    return dict(found.read())


class Plugin:
    __name__ = "greeting"

    @hookimpl
    def nexus_register_measurements(self, nexus: Any) -> Any:
        return [Measurement.of("greetings_total", "counter", "Greetings.", lambda: 3)]

    @hookimpl
    def nexus_register_health_checks(self, nexus: Any) -> Any:
        return [HealthCheck("greeter", lambda: None)]


class TestMeasurements:
    async def test_of_the_core(self, make: Any) -> None:
        nexus = make(Plugin(), max_concurrent_workflows=7)
        nexus.register("work", lambda: 1)
        inside: dict[str, Any] = {}

        @nexus.workflow
        async def look() -> None:
            inside.update(places=read(nexus, "nexus_workflows_running"), runs=read(nexus, "nexus_runs_kept"))

        async with nexus:
            await nexus.invoke("work")
            await nexus.invoke("look")
            assert inside["places"] == {(): 1}
            assert inside["runs"] == {("running",): 1, ("ended",): 1}
            assert read(nexus, "nexus_workflows_limit") == {(): 7}
            assert read(nexus, "nexus_workflows_running") == {(): 0}
            assert read(nexus, "nexus_threads")[()] >= 1
            assert read(nexus, "nexus_workflows") == {(): 2}
            assert read(nexus, "nexus_plugin_active") == {("greeting",): 1}

    async def test_of_plugins_while_it_is_started(self, make: Any) -> None:
        nexus = make(Plugin())
        async with nexus:
            assert read(nexus, "greetings_total") == {(): 3}
        assert all(each.name != "greetings_total" for each in nexus.measurements())

    async def test_names_and_kinds_are_in_order(self, make: Any) -> None:
        nexus = make()
        found = nexus.measurements()
        assert len({each.name for each in found}) == len(found)
        for each in found:
            assert each.kind == "counter" if each.name.endswith("_total") else each.kind == "gauge"
            assert all(len(labels) == len(each.labels) for labels, _ in each.read())

    async def test_of_events_and_their_followers(self, make: Any) -> None:
        nexus = make()
        nexus.register("work", lambda: 1)
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(event: Any) -> None:
            begun.set()
            await go_on.wait()

        nexus.register_event_handler(slow)
        async with nexus:
            follower = await nexus.event_log.follow(None, lambda event: True)
            assert read(nexus, "nexus_followers") == {(): 1}
            follower.close()
            assert read(nexus, "nexus_followers") == {(): 0}
            await nexus.invoke("work")
            await begun.wait()
            await nexus.invoke("work")
            ((name, waiting),) = read(nexus, "nexus_event_handler_backlog").items()
            assert name[0].endswith("slow")
            assert waiting >= 3
            go_on.set()
            await eventually(lambda: sum(read(nexus, "nexus_event_handler_backlog").values()) == 0)
            assert sum(read(nexus, "nexus_event_handler_dropped_total").values()) == 0

    async def test_threads_that_end_are_not_counted(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("nexus_core.concurrency.threads.IDLE_SECONDS", 0.01)
        nexus = make()
        nexus.register("work", lambda: 1)
        async with nexus:
            await nexus.invoke("work")
            await eventually(lambda: read(nexus, "nexus_threads") == {(): 0})


class TestHealth:
    async def test_checks_are_there_while_it_is_started(self, make: Any) -> None:
        nexus = make(Plugin())
        assert nexus.health_checks() == []
        async with nexus:
            assert [check.name for check in nexus.health_checks()] == ["greeter"]
        assert nexus.health_checks() == []

    async def test_it_is_ready_from_its_start_until_its_stop_begins(self, make: Any) -> None:
        nexus = make()
        begun, seen = asyncio.Event(), []

        @nexus.workflow
        async def work() -> None:
            begun.set()
            await eventually(lambda: not nexus.is_ready)
            seen.append(nexus.is_ready)

        assert not nexus.is_ready
        async with nexus:
            assert nexus.is_ready
            call = asyncio.create_task(nexus.invoke("work"))
            await begun.wait()
        await call
        assert seen == [False]
        assert not nexus.is_ready


class Collector:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def increment_counter(self, name: str, labels: Any = None, value: float = 1) -> None:
        self.told.append((name, labels, value))

    def record_histogram(self, name: str, value: float, labels: Any = None) -> None:
        self.told.append((name, labels, value))

    def set_gauge(self, name: str, value: float, labels: Any = None) -> None:
        self.told.append((name, labels, value))


class TestCollectors:
    def test_the_one_registered_last_takes_metrics(self, make: Any) -> None:
        nexus = make()
        first, second = Collector(), Collector()
        nexus.register_metrics_collector(first)
        nexus.register_metrics_collector(second)
        assert nexus.metrics_collector is second
        assert nexus.metrics_collectors == [first, second]

    @pytest.mark.parametrize(
        ("member", "advice"),
        [
            ("metrics_collector", "pip install nexus-hub-metrics, and set enable_metrics"),
            ("rate_limiter", "pip install nexus-hub-ratelimit, and set enable_rate_limiting"),
            ("auth_manager", "pip install nexus-hub-auth, and set enable_auth"),
        ],
    )
    def test_what_is_off_says_how_to_have_it(self, make: Any, member: str, advice: str) -> None:
        with pytest.raises(ConfigurationError, match=advice):
            getattr(make(), member)

    def test_without_any_it_is_a_plugins(self, make: Any) -> None:
        class Metrics:
            @hookimpl
            def nexus_register_metrics_collectors(self, nexus: Any) -> Any:
                asked.append(nexus)
                return [Collector()]

        asked: list[Any] = []
        nexus = make(Metrics())
        found = nexus.metrics_collector
        assert isinstance(found, Collector)
        assert nexus.metrics_collector is found
        assert asked == [nexus]

    async def test_event_handlers_count_in_it(self, make: Any) -> None:
        class Handler(EventHandler):
            def handle_workflow_start(self, event: Any) -> None:
                self.record_api_metric(event)
                self.track_ai_interaction(event)
                self.log_cli_usage(event)

            def handle_workflow_complete(self, event: Any) -> None:
                self.update_workflow_metrics(event.workflow_name, event.duration)

        nexus, collector = make(), Collector()
        nexus.register("work", lambda: 1)
        nexus.register_metrics_collector(collector)
        nexus.register_event_handler(Handler())
        async with nexus:
            await nexus.invoke("work")
            await eventually(lambda: len(collector.told) == 4)
        assert {labels["channel"] for name, labels, _ in collector.told if name == "event_handler_calls_total"} == {
            "api",
            "mcp",
            "cli",
        }
        (timed,) = [each for each in collector.told if each[0] == "event_handler_workflow_seconds"]
        assert timed[1] == {"workflow": "work"}
        assert 0 <= timed[2] < 10


class Recorder:
    """Stands for a tracing plugin."""

    trace_id, span_id = "0" * 31 + "1", "0" * 15 + "2"

    def __init__(self) -> None:
        self.spans: list[Any] = []

    @contextmanager
    def span(self, name: str, attributes: Any) -> Any:
        self.spans.append((name, dict(attributes)))
        yield

    def headers(self) -> dict[str, str]:
        return {"traceparent": "00-1-2-01"}

    @hookimpl
    def nexus_register_interceptors(self, nexus: Any) -> Any:
        return [self]

    stage = Stage.OBSERVE - 10

    async def __call__(self, invocation: Any, call_next: Any) -> Any:
        token = current_trace.set(self)
        try:
            return await call_next(invocation)
        finally:
            current_trace.reset(token)

    def test_a_plugin_whose_collector_is_none_is_taken_out(self, make: Any) -> None:
        class Wrong:
            @hookimpl
            def nexus_register_metrics_collectors(self, nexus: Any) -> Any:
                return [1]

        nexus = make(Wrong())
        assert nexus.find_metrics_collector() is None
        assert nexus.plugins.inactive()["Wrong"] == "nexus_register_metrics_collectors returned a int"


class TestTraces:
    def test_without_one_nothing_is_done(self) -> None:
        with span("work", of="nobody"):
            assert trace_headers() == {}

    async def test_workflows_are_part_of_it_also_in_threads(self, make: Any) -> None:
        recorder = Recorder()
        nexus = make(recorder)

        @nexus.workflow
        async def on_the_loop(context: Context) -> dict[str, str]:
            with context.span("look", rows=3):
                return context.trace_headers()

        @nexus.workflow
        def in_a_thread(context: Context) -> dict[str, str]:
            with span("read"):
                return trace_headers()

        async with nexus:
            for name in ("on_the_loop", "in_a_thread"):
                assert (await nexus.invoke(name)).value == {"traceparent": "00-1-2-01"}
            assert Stage.OBSERVE - 10 in nexus.stages
            assert Stage.RESOLVE in nexus.stages
        assert recorder.spans == [("look", {"rows": 3}), ("read", {})]
        assert current_trace.get() is None
        assert nexus.stages == frozenset()


class NamedChannel(Channel):
    port = 0

    def __init__(self, name: str, *, embedded: bool) -> None:
        self.name, self.is_embedded = name, embedded
        self.paths = (f"/{name}",)

    def asgi_app(self) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.name.encode()})

        return answer


class TestChannels:
    async def test_one_may_be_left_out_of_the_embedded_application(self, make: Any) -> None:
        class Plugin:
            @hookimpl
            def nexus_register_channels(self, nexus: Any) -> Any:
                return [NamedChannel("public", embedded=True), NamedChannel("inside", embedded=False)]

        nexus = make(Plugin())
        statuses = {}
        async with nexus:
            app = nexus.asgi_app()
            for path in ("/public", "/inside"):
                sent: list[Any] = []

                async def send(message: Any, sent: list[Any] = sent) -> None:
                    sent.append(message)

                async def receive() -> Any:
                    return {"type": "http.request", "body": b"", "more_body": False}

                await app(
                    {"type": "http", "method": "GET", "path": path, "headers": [], "http_version": "1.1"}, receive, send
                )
                statuses[path] = sent[0]["status"]
        assert statuses == {"/public": 200, "/inside": 404}

    def test_processes_can_share_a_port(self) -> None:
        from nexus_core.server.listeners import bind, close

        channel = NamedChannel("shared", embedded=True)
        channel.shares_port = True
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            channel.port = free.getsockname()[1]
        front: Any = lambda apps: next(iter(apps))[1]  # noqa: E731
        listeners = bind([channel], [], "127.0.0.1", front)
        try:
            close(bind([channel], [], "127.0.0.1", front))
        finally:
            close(listeners)


PROGRAM = """
import logging, sys, threading
from nexus_core import Nexus, hookimpl

class Logs:
    @hookimpl
    def nexus_register_log_handlers(self, nexus):
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("MINE %(message)s"))
        return [handler]

class Wrong:
    @hookimpl
    def nexus_register_log_handlers(self, nexus):
        return ["stderr"]

class Server:

    @hookimpl
    def nexus_register_servers(self, nexus):
        return [self]

    name = "none"

    async def serve(self, listeners, started, stop):
        started.set()
        nexus.stop()
        await stop.wait()

nexus = Nexus(discover=False, plugins=[Logs(), Wrong(), Server()])
if "configured" in sys.argv:
    logging.basicConfig(level="INFO", format="APP %(message)s", stream=sys.stdout)
nexus.start()
"""


@pytest.mark.parametrize(("argument", "prefix"), [("", "MINE"), ("configured", "APP")])
def test_plugins_show_the_logs_unless_the_application_does(argument: str, prefix: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, argument], capture_output=True, text=True, timeout=30, check=True
    )
    warning, last = ended.stdout.splitlines()
    assert warning.startswith(f"{prefix} No port is open: no active plugin has a channel that listens.")
    assert last == f"{prefix} Stopping"


async def test_a_plugin_whose_measurements_are_none_is_taken_out(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong:
        @hookimpl
        def nexus_register_measurements(self, nexus: Any) -> Any:
            return ["many"]

    nexus = make(Wrong())
    with caplog.at_level(logging.ERROR):
        async with nexus:
            assert nexus.plugins.active() == []
    assert "nexus_register_measurements returned a str without 'name'" in caplog.text


async def test_its_text_says_how_it_is(make: Any) -> None:
    class Broken:
        @hookimpl
        async def nexus_startup(self) -> None:
            raise ValueError("no")

    nexus = make(Broken())
    nexus.register("w", lambda: 1)
    assert repr(nexus) == "<Nexus: 1 workflows; 1 plugins; not started>"
    async with nexus:
        assert repr(nexus) == "<Nexus: 1 workflows; 0 plugins; failed: Broken; started: no channel>"
