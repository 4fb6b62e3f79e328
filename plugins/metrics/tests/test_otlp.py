"""Metrics that are sent, to a collector that decodes them; and to collectors that are away, hang or refuse."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

import pytest
from nexus_toolkit.telemetry import TelemetryCollector
from opentelemetry.proto.metrics.v1 import metrics_pb2

from nexus_core import ConfigurationError, Invocation
from nexus_core.testing import eventually

CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE


def attributes(point):
    return {each.key: each.value.string_value for each in point.attributes}


@pytest.fixture(name="start")
async def start_fixture(make, otlp_receiver):
    """Start a platform that sends its metrics to the receiver."""
    started = []

    async def start(**options):
        sent = {"metrics_backend": "otlp", "monitoring_service_url": otlp_receiver.url, "metrics_push_interval": 0.05}
        nexus = make(**sent | options)
        nexus.register("work", lambda: 1)
        await nexus.__aenter__()
        started.append(nexus)
        return nexus

    yield start
    for nexus in started:
        await nexus.__aexit__(None, None, None)


def latest(receiver, name):
    found = [metric for metric in receiver.metrics() if metric.name == name]
    return found[-1] if found else None


async def test_what_is_counted_is_sent(start, otlp_receiver):
    nexus = await start()
    for _ in range(3):
        await nexus.invoke(Invocation("work", {}, "api"))
    nexus.metrics_collector.set_gauge("water_litres", 2.5)

    def value(name):
        metric = latest(otlp_receiver, name)
        return metric and metric.sum.data_points and metric.sum.data_points[0].as_double

    await eventually(lambda: value("nexus_calls_total") == 3 and latest(otlp_receiver, "water_litres"))
    calls = latest(otlp_receiver, "nexus_calls_total")
    assert (calls.sum.is_monotonic, calls.sum.aggregation_temporality) == (True, CUMULATIVE)
    (point,) = calls.sum.data_points
    assert attributes(point) == {"workflow": "work", "channel": "api", "outcome": "completed", "code": ""}
    assert 0 < point.start_time_unix_nano < point.time_unix_nano <= time.time_ns()
    seconds = latest(otlp_receiver, "nexus_call_seconds")
    assert (seconds.unit, seconds.histogram.aggregation_temporality) == ("s", CUMULATIVE)
    (point,) = seconds.histogram.data_points
    assert point.count == sum(point.bucket_counts) == 3
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert latest(otlp_receiver, "water_litres").gauge.data_points[0].as_double == 2.5
    path, headers, message = otlp_receiver.requests[0]
    assert (path, headers["content-type"]) == ("/v1/metrics", "application/x-protobuf")
    resource = {each.key: each.value.string_value for each in message.resource_metrics[0].resource.attributes}
    assert resource["service.name"] == "nexus"
    assert resource["telemetry.sdk.language"] == "python"


async def test_the_services_name_is_the_environments(start, otlp_receiver, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    await start()
    await eventually(lambda: otlp_receiver.requests)
    resource = otlp_receiver.requests[0][2].resource_metrics[0].resource
    found = {each.key: each.value.string_value for each in resource.attributes}
    assert found.items() >= {"service.name": "shop", "deployment.environment": "test"}.items()


async def test_a_token_goes_with_it(start, otlp_receiver):
    await start(monitoring_service_token="a long token")
    await eventually(lambda: otlp_receiver.requests)
    assert otlp_receiver.requests[0][1]["authorization"] == "Bearer a long token"


async def test_the_last_numbers_are_sent_at_the_end(make, otlp_receiver):
    nexus = make(metrics_backend="otlp", monitoring_service_url=otlp_receiver.url, metrics_push_interval=3600)
    nexus.register("work", lambda: 1)
    async with nexus:
        await nexus.invoke("work")
        assert otlp_receiver.requests == []
    assert latest(otlp_receiver, "nexus_calls_total").sum.data_points[0].as_double == 1


async def test_a_second_start_counts_from_the_same_time(make, otlp_receiver):
    nexus = make(metrics_backend="otlp", monitoring_service_url=otlp_receiver.url, metrics_push_interval=3600)
    nexus.register("work", lambda: 1)
    for _ in range(2):
        async with nexus:
            await nexus.invoke("work")
    points = [each.sum.data_points[0] for each in otlp_receiver.metrics() if each.name == "nexus_calls_total"]
    assert [point.as_double for point in points] == [1, 2]
    assert len({point.start_time_unix_nano for point in points}) == 1


async def test_collectors_look_at_the_channels_first(make, otlp_receiver):
    from nexus_metrics import MetricsCollector

    class Looks(MetricsCollector):
        def collect_channel_metrics(self, channel, request_count, error_count):
            self.set_gauge("looked", 1, {"channel": channel})

    nexus = make(metrics_backend="otlp", monitoring_service_url=otlp_receiver.url, metrics_push_interval=0.05)
    nexus.register_metrics_collector(Looks())
    nexus.register("work", lambda: 1)
    async with nexus:
        await nexus.invoke(Invocation("work", {}, "api"))
        await eventually(lambda: latest(otlp_receiver, "looked"))


class TestCollectorsThatAreAway:
    async def use(self, nexus, caplog, complaint):
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                await nexus.invoke("work")
            await eventually(lambda: complaint in caplog.text)
            await asyncio.sleep(0.2)  # several more tries
        assert caplog.text.count("Export of metrics to") == 1

    async def test_nobody_listens(self, start, caplog):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        await self.use(await start(monitoring_service_url=url), caplog, f"Export of metrics to {url}/v1/metrics")

    async def test_it_refuses_and_comes_back(self, start, otlp_receiver, caplog):
        otlp_receiver.status = 503
        nexus = await start()
        await self.use(nexus, caplog, "503 Service Unavailable")
        otlp_receiver.status = 200
        with caplog.at_level(logging.WARNING):
            await eventually(lambda: "works again" in caplog.text)

    async def test_it_hangs(self, make, otlp_receiver):
        otlp_receiver.pause = 30.0
        nexus = make(metrics_backend="otlp", monitoring_service_url=otlp_receiver.url, metrics_push_interval=0.05)
        nexus.register("work", lambda: 1)
        begin = time.monotonic()
        async with nexus:
            await eventually(lambda: otlp_receiver.requests)
            for _ in range(100):
                await nexus.invoke("work")
        assert time.monotonic() - begin < 15

    async def test_it_sends_elsewhere(self, start, otlp_receiver, caplog, make):
        otlp_receiver.status = 307
        await self.use(await start(), caplog, "307")

    async def test_a_secret_in_its_address_is_not_told(self, start, otlp_receiver, caplog):
        otlp_receiver.status = 500
        url = otlp_receiver.url.replace("http://", "http://user:pa55word@")
        nexus = await start(monitoring_service_url=url)
        with caplog.at_level(logging.WARNING):
            await nexus.invoke("work")
            await eventually(lambda: "failed" in caplog.text)
        assert "pa55word" not in caplog.text


@pytest.mark.parametrize("url", ["ftp://host", "host:4318", "http://", "file:///etc/passwd"])
async def test_addresses_that_are_none(make, url):
    with pytest.raises(ConfigurationError, match="monitoring_service_url must be a URL"):
        await make(metrics_backend="otlp", monitoring_service_url=url).__aenter__()


async def test_an_address_is_needed(make):
    with pytest.raises(ConfigurationError, match="metrics_backend otlp needs monitoring_service_url"):
        await make(metrics_backend="prometheus,otlp").__aenter__()


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://c:4318", "http://c:4318/v1/metrics"),
        ("http://c:4318/", "http://c:4318/v1/metrics"),
        ("https://c/otlp", "https://c/otlp/v1/metrics"),
        ("https://c/otlp/v1/metrics", "https://c/otlp/v1/metrics"),
    ],
)
def test_the_path_is_added(url, sent):
    assert TelemetryCollector(url, "/v1/metrics", "monitoring_service_url").url == sent
