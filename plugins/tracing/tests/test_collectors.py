"""Collectors that are away, hang or refuse: calls do not notice, and the end of the platform is bounded."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

import pytest
from nexus_tracing.plugin import TracingPlugin
from nexus_tracing.span_provider import SEND_SECONDS

from nexus_core import ConfigurationError
from nexus_core.testing import eventually, isolated_nexus


def add_work(nexus):
    nexus.register("work", lambda: 7)


async def use(nexus, caplog, complaint):
    """Call until the outage is told, and a little longer."""
    with caplog.at_level(logging.INFO):
        async with nexus:
            for _ in range(5):
                assert (await nexus.invoke("work")).value == 7
            await eventually(lambda: complaint in caplog.text)
            for _ in range(20):
                assert (await nexus.invoke("work")).value == 7
                await asyncio.sleep(0.01)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1


async def test_nobody_listens(make, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    nexus = make(tracing_endpoint=url)
    add_work(nexus)
    await use(nexus, caplog, f"Export of traces to {url}/v1/traces")


async def test_it_refuses_and_comes_back(make, caplog, otlp_receiver, spans):
    otlp_receiver.status = 500
    nexus = make()
    add_work(nexus)
    with caplog.at_level(logging.WARNING):
        async with nexus:
            await nexus.invoke("work")
            await eventually(lambda: "failed" in caplog.text)
            otlp_receiver.status = 200
            await nexus.invoke("work")
            await eventually(lambda: "works again" in caplog.text)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("status", [302, 404, 413, 503])
async def test_every_refusal_is_told_once(make, caplog, otlp_receiver, status):
    otlp_receiver.status = status
    nexus = make()
    add_work(nexus)
    await use(nexus, caplog, str(status))


async def test_it_hangs(make, otlp_receiver):
    otlp_receiver.pause = 30.0
    nexus = make()
    add_work(nexus)
    begin = time.monotonic()
    async with nexus:
        await nexus.invoke("work")
        await eventually(lambda: otlp_receiver.requests)
        for _ in range(2000):
            assert (await nexus.invoke("work")).value == 7
    assert time.monotonic() - begin < 20


async def test_the_end_does_not_wait_for_one_that_hangs(make, otlp_receiver):
    otlp_receiver.pause = 30.0
    nexus = make()
    add_work(nexus)
    await nexus.__aenter__()
    await nexus.invoke("work")
    await eventually(lambda: otlp_receiver.requests)  # one is being sent, and may take five seconds
    (plugin,) = nexus.plugins.instances(TracingPlugin)
    begin = time.monotonic()
    await plugin.shutdown()
    assert time.monotonic() - begin < SEND_SECONDS - 1
    await nexus.__aexit__(None, None, None)


async def test_more_than_can_wait_is_dropped(make, otlp_receiver, monkeypatch, spans):
    monkeypatch.setattr("nexus_tracing.span_provider.QUEUE_SIZE", 600)
    nexus = make(tracing_push_interval=3600)
    add_work(nexus)
    otlp_receiver.pause = 30.0
    async with nexus:
        for _ in range(2000):
            await nexus.invoke("work")
    assert len(spans.all) <= 600


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector", "http://", ""])
async def test_addresses_that_are_none(make, url):
    with pytest.raises(ConfigurationError, match="tracing_endpoint must be a URL"):
        await make(tracing_endpoint=url).__aenter__()


async def test_its_address_may_be_opentelemetrys_variable(otlp_receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    nexus = isolated_nexus(TracingPlugin, enable_tracing=True)
    add_work(nexus)
    async with nexus:
        await nexus.invoke("work")
    assert otlp_receiver.spans()


async def test_a_token_goes_along_and_the_service_has_a_name(make, otlp_receiver, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    nexus = make(tracing_token="a long token")
    add_work(nexus)
    async with nexus:
        await nexus.invoke("work")
    path, headers, message = otlp_receiver.requests[0]
    assert path == "/v1/traces"
    assert headers["authorization"] == "Bearer a long token"
    attributes = message.resource_spans[0].resource.attributes
    assert {each.key: each.value.string_value for each in attributes}["service.name"] == "shop"


@pytest.mark.parametrize("ratio", [-0.1, 1.5, "many"])
def test_ratios_that_are_none(make, ratio):
    with pytest.raises(ConfigurationError, match="tracing_sample_ratio"):
        make(tracing_sample_ratio=ratio)


async def test_instrumentations_that_are_not_there(make):
    with pytest.raises(
        ConfigurationError, match="'nosuch' is not installed: pip install opentelemetry-instrumentation-"
    ):
        await make(tracing_instrument=["nosuch"]).__aenter__()


async def test_where_one_is_not_there_none_stays_on(make):
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.requests")
    with pytest.raises(ConfigurationError, match="'nosuch'"):
        await make(tracing_instrument=["requests", "nosuch"]).__aenter__()
    assert not instrumentation.RequestsInstrumentor().is_instrumented_by_opentelemetry
