"""Checks that are run again and again: those that hang, raise, come and go, and what is told of them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from guide_checker import CustomHealthChecker
from health_helpers import comes, monitor_of
from nexus_health import HealthChecker
from nexus_health.plugin import HealthPlugin

from nexus_core import hookimpl
from nexus_core.testing import isolated_nexus
from nexus_core.types.health import HealthCheck


def results(nexus):
    return {each.name: each for each in monitor_of(nexus).results}


def errors(nexus):
    return {name: each.verdict.error for name, each in results(nexus).items() if not each.verdict.is_healthy}


def status(nexus, name):
    found = results(nexus).get(name)
    return found and found.verdict.status


class Switched(HealthChecker):
    """Healthy while it is on."""

    is_on = True

    def check_light(self):
        return {"status": "healthy" if self.is_on else "unhealthy"}


# The guide's


class Database:
    is_there = True

    def ping(self):
        if not self.is_there:
            raise ConnectionError("the database has gone")


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 500)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(name="service")
def service_fixture():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def test_the_guides_checker_as_it_is(start, service):
    plain = await start(CustomHealthChecker(), enable_health_checks=True)
    assert errors(plain) == {"database_health": "'NoneType' object has no attribute 'ping'"}
    assert status(plain, "external_services") == "healthy"


async def test_the_guides_checker_with_what_it_asks(start, service):
    database = Database()
    nexus = await start(CustomHealthChecker(db_client=database, external_services={"pay": service}))
    assert errors(nexus) == {}
    assert monitor_of(nexus).is_ready
    report = monitor_of(nexus).report()
    assert report["status"] == "healthy"
    assert report["checks"]["database_health"]["details"] == {"latency": "5ms"}
    assert report["checks"]["external_services.pay"]["status"] == "healthy"
    database.is_there = False
    nexus.health_checkers[0].external_services = {"pay": service + "/deeper", "gone": "http://127.0.0.1:1"}
    await comes(lambda: len(errors(nexus)) == 2)
    assert errors(nexus) == {
        "database_health": "the database has gone", "external_services": "affected: pay, gone",
    }  # fmt: skip
    assert monitor_of(nexus).not_ready == ["database_health", "external_services"]
    database.is_there = True
    nexus.health_checkers[0].external_services = {}
    await comes(lambda: monitor_of(nexus).is_ready)


# Those that do not end, and those that raise


class Hanging(HealthChecker):
    """Blocks a thread until it is let go."""

    def __init__(self):
        self.gate = threading.Event()
        self.begun = self.at_once = self.most = 0

    def check_hanging(self):
        self.begun += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.gate.wait(30)
        self.at_once -= 1
        return {"status": "healthy"}

    def check_other(self):
        return {"status": "healthy"}


async def test_one_that_hangs_is_unhealthy_holds_up_no_other_and_is_not_begun_again(start):
    hanging = Hanging()
    nexus = await start(hanging, health_check_timeout=0.2)
    try:
        assert errors(nexus)["hanging"].startswith("timed out after 0.2 s")
        assert status(nexus, "other") == "healthy"
        await comes(lambda: "still running after 1 s" in errors(nexus)["hanging"])
        assert (hanging.begun, hanging.most) == (1, 1)
        assert time.time() - results(nexus)["other"].checked_at < 1, "the others go on"
    finally:
        hanging.gate.set()
    await comes(lambda: status(nexus, "hanging") == "healthy")
    assert hanging.most == 1


async def test_a_thread_that_hangs_outlives_the_stop_and_is_alone_after_it():
    hanging = Hanging()
    nexus = isolated_nexus(HealthPlugin, health_check_interval=0.1, health_check_timeout=0.1)
    nexus.register_health_checker(hanging)
    try:
        for _ in range(3):
            began = time.monotonic()
            async with nexus:
                await comes(lambda: "hanging" in errors(nexus))
            assert time.monotonic() - began < 5
        assert (hanging.begun, hanging.most) == (1, 1)
    finally:
        hanging.gate.set()


class Stubborn(HealthChecker):
    """Catches its cancellation."""

    begun = 0

    def __init__(self):
        self.gate = asyncio.Event()

    async def check_stubborn(self):
        self.begun += 1
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                continue
        return {"status": "healthy"}


async def test_an_async_one_that_does_not_stop_is_not_begun_again(start):
    stubborn = Stubborn()
    nexus = await start(stubborn, health_check_timeout=0.1)
    await comes(lambda: "still running" in errors(nexus)["stubborn"])
    assert stubborn.begun == 1
    stubborn.gate.set()
    await comes(lambda: status(nexus, "stubborn") == "healthy")


class Raising(HealthChecker):
    def check_exit(self):
        raise SystemExit(3)

    async def check_async_exit(self):
        raise SystemExit(4)

    def check_interrupt(self):
        raise KeyboardInterrupt

    async def check_async_interrupt(self):
        raise KeyboardInterrupt

    async def check_cancelled(self):
        raise asyncio.CancelledError

    def check_stop(self):
        raise StopIteration

    def check_generator_exit(self):
        raise GeneratorExit

    async def check_generator(self):
        yield {"status": "healthy"}

    def check_coroutine(self):
        async def later():
            return {"status": "healthy"}

        return later()

    def check_recursion(self):
        return self.check_recursion()

    def check_good(self):
        return {"status": "healthy"}


async def test_whatever_one_raises_harms_nobody(start):
    nexus = await start(Raising(), health_check_timeout=5)
    found = errors(nexus)
    assert status(nexus, "good") == status(nexus, "coroutine") == "healthy"
    assert found.keys() == {
        "async_exit", "async_interrupt", "cancelled", "exit", "generator", "generator_exit", "interrupt", "recursion",
        "stop",
    }  # fmt: skip
    assert found["async_exit"] == "SystemExit: 4"
    assert "SystemExit(3)" in found["exit"] or found["exit"] == "SystemExit: 3"
    nexus.register("work", lambda: 7)
    assert (await nexus.invoke("work")).value == 7


async def test_sync_ones_run_in_threads_of_their_own_async_ones_on_the_event_loop(start):
    seen = {}

    class Where(HealthChecker):
        def check_sync(self):
            seen["sync"] = threading.current_thread().name
            return {"status": "healthy"}

        async def check_async(self):
            seen["async"] = threading.current_thread() is threading.main_thread()
            return {"status": "healthy"}

    await start(Where())
    assert seen == {"sync": "nexus-health", "async": True}


class Slow(HealthChecker):
    timeouts = {"check_long": 5}  # noqa: RUF012

    def check_short(self):
        time.sleep(0.5)
        return {"status": "healthy"}

    def check_long(self):
        time.sleep(0.5)
        return {"status": "healthy"}


async def test_each_has_its_own_time_limit(start):
    nexus = await start(Slow(), health_check_timeout=0.1)
    assert list(errors(nexus)) == ["short"]
    assert errors(nexus)["short"].startswith("timed out after 0.1 s")
    assert results(nexus)["long"].seconds >= 0.5


# Who decides, and when


async def test_nobody_is_sent_there_before_every_critical_check_has_answered(start):
    hanging = Hanging()
    nexus = await start(hanging, settles=False, health_check_timeout=20)
    monitor = monitor_of(nexus)
    await comes(lambda: status(nexus, "other") == "healthy")
    assert not monitor.is_ready
    assert monitor.not_ready == ["hanging"]
    hanging.gate.set()
    await comes(lambda: monitor.is_ready)


async def test_only_critical_ones_decide_and_options_say_which_are_not(start):
    dark = Switched()
    dark.is_on = False
    nexus = await start(dark)
    assert (monitor_of(nexus).is_ready, monitor_of(nexus).report()["status"]) == (False, "unhealthy")
    other = await start(dark, health_non_critical=["light"])
    assert (monitor_of(other).is_ready, monitor_of(other).report()["status"]) == (True, "degraded")


async def test_an_option_that_names_no_check_is_told(start, caplog):
    await start(Switched(), health_non_critical=["lihgt"])
    assert "health_non_critical: unknown check 'lihgt'" in caplog.messages


async def test_checkers_that_come_later_and_names_that_several_have(start):
    nexus = await start(Switched())
    nexus.register_health_checker(Switched())
    nexus.register_health_checker(Switched())
    await comes(lambda: len([name for name in results(nexus) if "light" in name]) == 3)
    assert {"light", "Switched.light", "Switched.light_2"} <= results(nexus).keys()


async def test_one_checker_on_two_platforms(start):
    shared = Switched()
    first, second = await start(shared), await start(shared, health_non_critical=["light"])
    shared.is_on = False
    await comes(lambda: status(first, "light") == status(second, "light") == "unhealthy")
    assert not monitor_of(first).is_ready
    assert monitor_of(second).is_ready


# What is told


async def test_a_change_is_told_once_to_handlers_and_in_the_log(start, caplog):
    light, told = Switched(), []
    nexus = await start(light)
    nexus.events.listen(lambda event: told.append(event) if event.type == "health.changed" else None)
    before = results(nexus)["light"].since
    with caplog.at_level(logging.INFO, "nexus_health"):
        for is_on in (False, True):
            light.is_on = is_on
            await comes(lambda is_on=is_on: (status(nexus, "light") == "healthy") == is_on)
            since = results(nexus)["light"].since
            first = results(nexus)["light"].checked_at
            await comes(lambda first=first: results(nexus)["light"].checked_at > first + 0.2)
            assert results(nexus)["light"].since == since > before
    assert [(event.data["check"], event.data["status"]) for event in told] == [
        ("light", "unhealthy"), ("light", "healthy"),
    ]  # fmt: skip
    assert not any(event.is_public or event.owner for event in told)
    assert caplog.messages == [
        "Health check light is unhealthy: no reason given", "Health check light is healthy again",
    ]  # fmt: skip


async def test_numbers_for_alerts(start):
    class Parts(HealthChecker):
        def check_services(self):
            return {"mail": {"status": "healthy"}, "ink": {"status": "unhealthy"}}

    nexus = await start(Parts())
    found = {
        each.name: dict(each.read()) for each in nexus.measurements() if "health" in each.name or "ready" in each.name
    }
    assert found["nexus_ready"] == {(): 0.0}
    healthy = found["nexus_health_check_healthy"]
    assert healthy["services",] == healthy["services.ink",] == 0.0
    assert healthy["services.mail",] == healthy["plugins",] == 1.0
    assert found["nexus_health_check_seconds"]["services",] >= 0


async def test_nothing_is_there_where_it_is_switched_off(start):
    nexus = await start(Switched(), enable_health_checks=False, settles=False)
    assert monitor_of(nexus) is None
    assert not [each for each in nexus.measurements() if "health" in each.name]


# What the core can be asked


async def test_a_blocked_event_loop_is_told(start):
    nexus = await start()
    assert status(nexus, "event_loop") == "healthy"
    time.sleep(1.7)  # what a workflow must not do
    await comes(lambda: "the event loop was blocked for" in errors(nexus).get("event_loop", ""))
    assert monitor_of(nexus).is_ready
    await comes(lambda: status(nexus, "event_loop") == "healthy")


async def test_places_that_are_all_taken_are_told(start):
    nexus = await start(max_concurrent_workflows=1)
    gate = asyncio.Event()
    nexus.register("wait", gate.wait)
    call = asyncio.create_task(nexus.invoke("wait"))
    await comes(lambda: "1 workflows are running" in errors(nexus).get("places", ""))
    assert monitor_of(nexus).is_ready
    gate.set()
    await call
    await comes(lambda: status(nexus, "places") == "healthy")


class Failing:
    @hookimpl
    def nexus_register_servers(self, nexus):
        raise ValueError("redis://u:hunter22@h has gone")


class Checking:
    """A plugin with a store that can be away, and a check of its own."""

    name = "away"
    is_there = True
    reason = "the network is down"

    @hookimpl
    def nexus_register_stores(self, nexus):
        return [self]

    @hookimpl
    def nexus_register_health_checks(self, nexus):
        return [HealthCheck("vault", lambda: None), HealthCheck("plugins", lambda: 1 / 0, is_critical=False)]

    async def ready(self):
        return self.is_there

    async def get(self, key): ...
    async def set(self, key, value, ttl): ...
    async def add(self, key, value, ttl): ...
    async def replace(self, key, old, new, ttl): ...
    async def delete(self, key, value=None): ...


async def test_plugins_that_failed_are_told(start):
    nexus = await start(plugins=[Failing()])
    assert errors(nexus) == {"plugins": "not active: Failing; run nexus plugins check for the reasons"}
    report = monitor_of(nexus).report()
    assert report["ready"]
    assert "ValueError" in report["failed_plugins"]["Failing"]
    assert "hunter22" not in report["failed_plugins"]["Failing"]


async def test_the_store_and_plugins_own_checks(start):
    away = Checking()
    nexus = await start(plugins=[away], store="away")
    assert errors(nexus) == {"plugin.plugins": "ZeroDivisionError: division by zero"}
    assert monitor_of(nexus).is_ready
    away.is_there = False
    await comes(lambda: errors(nexus).get("store") == "the network is down")
    assert monitor_of(nexus).not_ready == ["store"]


async def test_a_check_may_run_more_often_than_others(start):
    class Often:
        def __init__(self):
            self.often = self.seldom = 0
            self.fails = False

        @hookimpl
        def nexus_register_health_checks(self):
            return [HealthCheck("often", self.check_often, interval=0.02), HealthCheck("seldom", self.check_seldom)]

        async def check_often(self):
            self.often += 1
            if self.fails:
                raise OSError("away")

        async def check_seldom(self):
            self.seldom += 1

    plugin = Often()
    nexus = await start(plugins=[plugin], health_check_interval=600)
    await comes(lambda: plugin.often > 5)
    assert plugin.seldom == 1
    plugin.fails = True
    await comes(lambda: monitor_of(nexus).not_ready == ["often"])
    assert monitor_of(nexus).retry_after == 1
    plugin.fails = False
    await comes(lambda: monitor_of(nexus).is_ready)
