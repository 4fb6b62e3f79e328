"""Metrics, health and logs: the guide's collector and checker, seen from outside."""

from __future__ import annotations

import asyncio
import http.server
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from guide_callers import CHANNELS, Client
from guide_text import run, served
from prometheus_client.parser import text_string_to_metric_families

from nexus_core import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core import Nexus

METRICS, HEALTH = "Metrics Collection", "Health Checks"


async def samples(urls: dict[str, str]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = (await Client(urls).http("GET", "/metrics", "metrics")).text
    families = text_string_to_metric_families(text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def labels(**given: str) -> frozenset[tuple[str, str]]:
    return frozenset(given.items())


async def test_the_collector_counts_every_channel() -> None:
    nexus: Nexus = run(METRICS)["nexus"]

    @nexus.workflow
    async def work(fail: bool = False) -> int:
        if fail:
            raise WorkflowError("no")
        return 1

    async with served(nexus) as urls:
        for channel in CHANNELS:
            await Client(urls).call(channel, "work", {})
        await Client(urls).api("work", {"fail": True})
        for _ in range(1000):
            found = await samples(urls)
            if found.get(("workflow_executions_total", labels(workflow="work", success="false"))):
                break
            await asyncio.sleep(0.02)
        assert found["workflow_executions_total", labels(workflow="work", success="true")] == 3
        assert found["workflow_executions_total", labels(workflow="work", success="false")] == 1
        assert found["workflow_duration_seconds_count", labels(workflow="work")] == 4
        for channel in CHANNELS:
            assert ("channel_active_requests", labels(channel=channel)) in found
        assert found["channel_errors_total", labels(channel="api")] == 1
    assert next(each.metrics_port for each in nexus.every_settings if hasattr(each, "metrics_port")) == 9090


async def test_the_exporter_is_what_answers() -> None:
    space = run(METRICS)
    nexus = space["nexus"]
    async with nexus:
        exporter = await space["PrometheusExporter"](nexus).refreshed()
        assert b"nexus_calls_total" in await asyncio.to_thread(exporter.render)


@pytest.fixture
def service() -> Iterator[Any]:
    """Another service, whose health can be changed."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(server.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.status = 200
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Database:
    fails = False

    def ping(self) -> None:
        if self.fails:
            raise ConnectionError("no route to the database")


async def test_the_checker_decides_readiness(service: Any, environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(health_check_interval=0.1)
    space = run(HEALTH, requests=requests)
    database = Database()
    checker = space["CustomHealthChecker"]
    monkeypatch.setattr(checker, "db_client", database)
    monkeypatch.setattr(checker, "external_services", {"billing": f"http://127.0.0.1:{service.server_port}"})

    async with served(space["nexus"]) as urls:

        async def comes_to(status: int) -> Any:
            async with asyncio.timeout(30):
                while True:
                    answer = await Client(urls).http("GET", "/health/ready")
                    if answer.status_code == status:
                        return (await Client(urls).http("GET", "/health")).json()
                    await asyncio.sleep(0.02)

        shown = await comes_to(200)
        assert shown["checks"]["database_health"]["status"] == "healthy", shown
        assert (await Client(urls).http("GET", "/health/live")).status_code == 200
        database.fails = True
        shown = await comes_to(503)
        assert shown["checks"]["database_health"]["status"] == "unhealthy"
        database.fails = False
        await comes_to(200)
        service.status = 500
        assert "unhealthy" in str((await comes_to(503))["checks"]["external_services"])
        assert (await Client(urls).http("GET", "/health/live")).status_code == 200
