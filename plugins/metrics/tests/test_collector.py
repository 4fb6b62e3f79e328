"""Collectors: the guide's, and those that raise, hang and talk nonsense."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
from nexus_metrics import MetricsCollector, PrometheusExporter
from nexus_metrics.collector import MAX_SERIES, metrics_of

from nexus_core import ConfigurationError, Invocation, Nexus, NexusError
from nexus_core.testing import eventually


class CustomMetricsCollector(MetricsCollector):
    """As in the guide."""

    def collect_workflow_metrics(self, workflow_name: str, duration: float, success: bool):
        """Collect workflow execution metrics"""
        # Increment execution counter
        self.increment_counter(f"workflow_executions_total", {  # noqa: F541
            "workflow": workflow_name,
            "success": str(success).lower()
        })  # fmt: skip

        # Record duration histogram
        self.record_histogram(f"workflow_duration_seconds", duration, {  # noqa: F541
            "workflow": workflow_name
        })  # fmt: skip

    def collect_channel_metrics(self, channel: str, request_count: int, error_count: int):
        """Collect channel-specific metrics"""
        self.set_gauge(f"channel_active_requests", request_count, {  # noqa: F541
            "channel": channel
        })  # fmt: skip

        self.increment_counter(f"channel_errors_total", {  # noqa: F541
            "channel": channel
        }, value=error_count)  # fmt: skip


async def until(condition):
    """Wait until an async condition holds."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


def add_work(nexus):
    @nexus.workflow
    async def work(fail: bool = False) -> int:
        if fail:
            raise ValueError
        return 7


async def call(nexus, **params):
    try:
        await nexus.invoke(Invocation("work", params, "api"))
    except NexusError:
        return


async def test_the_guides_collector(make, scraped):
    nexus = make(metrics_backend="prometheus", metrics_port=0)
    nexus.register_metrics_collector(CustomMetricsCollector())
    add_work(nexus)
    async with nexus:
        for fail in (False, False, True):
            await call(nexus, fail=fail)
        await call(nexus, wrong=True)

        async def is_told():
            found = await scraped(nexus)
            return found.value("workflow_duration_seconds_count", workflow="work") == 3

        await until(is_told)
        found = await scraped(nexus)
    assert found.value("workflow_executions_total", workflow="work", success="true") == 2
    assert found.value("workflow_executions_total", workflow="work", success="false") == 1
    assert found.value("channel_active_requests", channel="api") == 0
    assert found.value("channel_errors_total", channel="api") == 2


def test_it_is_there_at_once():
    nexus = Nexus(enable_monitoring=True)
    assert isinstance(nexus.metrics_collector, MetricsCollector)
    mine = CustomMetricsCollector()
    nexus.register_metrics_collector(mine)
    assert nexus.metrics_collector is mine


async def test_code_of_ones_own_counts(make, scraped):
    nexus = make()
    nexus.metrics_collector.increment_counter("cups", {"size": "large"}, value=2)
    nexus.metrics_collector.increment_counter("cups_total", {"size": "large"})
    nexus.metrics_collector.set_gauge("water_litres", 3.5)
    nexus.metrics_collector.set_gauge("water_litres", 2.5)
    for seconds in (0.1, 0.2, 400):
        nexus.metrics_collector.record_histogram("brewing_seconds", seconds)
    async with nexus:
        found = await scraped(nexus)
    assert found.value("cups_total", size="large") == 3
    assert found.value("water_litres") == 2.5
    assert found.value("brewing_seconds_count") == 3
    assert found.value("brewing_seconds_bucket", le="0.1") == 1
    assert found.value("brewing_seconds_bucket", le="300.0") == 2
    assert found.value("brewing_seconds_bucket", le="+Inf") == 3


async def test_several_collectors_add_up(make, scraped):
    nexus = make()
    for _ in range(2):
        collector = MetricsCollector()
        nexus.register_metrics_collector(collector)
        collector.increment_counter("cups", {"size": "large"})
    for name in ("cups_total", "cups", "seconds_count"):  # of names that can't be told apart, the first counts
        other = MetricsCollector()
        nexus.register_metrics_collector(other)
        other.set_gauge(name, 7)
    collector.record_histogram("seconds", 1)
    async with nexus:
        found = await scraped(nexus)
        text = PrometheusExporter(nexus).render(openmetrics=True).decode()
    assert found.value("cups_total", size="large") == 2
    assert found.value("seconds_count") == 1
    assert not {"cups", "seconds_count"} & found.exposed
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    assert "seconds" in {family.name for family in text_string_to_metric_families(text)}


BAD = {
    "name": (lambda c: c.increment_counter("1st"), "'1st' is not the name of a metric"),
    "empty": (lambda c: c.increment_counter(""), "is not the name of a metric"),
    "injection": (lambda c: c.set_gauge("a 1\nb", 1), "is not the name of a metric"),
    "not text": (lambda c: c.set_gauge(3, 1), "'3' is not the name of a metric"),
    "reserved": (lambda c: c.set_gauge("nexus_calls_total", 1), "begins with 'nexus_'"),
    "label": (lambda c: c.set_gauge("a", 1, {"a-b": "c"}), "'a-b' is not the name of a label of the metric 'a'"),
    "own label": (lambda c: c.record_histogram("a", 1, {"le": "c"}), "'le' is not the name of a label"),
    "dunder": (lambda c: c.set_gauge("a", 1, {"__name__": "c"}), "'__name__' is not the name of a label"),
    "negative": (lambda c: c.increment_counter("a", value=-1), "'a' can't be incremented by -1"),
    "nan": (lambda c: c.set_gauge("a", float("nan")), "'a' can't be nan"),
    "infinite": (lambda c: c.record_histogram("a", float("inf")), "'a' can't be inf"),
    "text": (lambda c: c.set_gauge("a", "many"), "'a' must be a number, not a str"),
    "none": (lambda c: c.set_gauge("a", None), "'a' must be a number, not a NoneType"),
    "kind": (lambda c: (c.set_gauge("a_total", 1), c.increment_counter("a")), "'a_total' is a gauge already"),
    "labels": (
        lambda c: (c.set_gauge("a", 1, {"x": 1}), c.set_gauge("a", 1, {"y": 1})),
        "'a' has the labels x, not y",
    ),
    "no labels": (
        lambda c: (c.set_gauge("a", 1, {"x": 1}), c.set_gauge("a", 1)),
        "'a' has the labels x, not none",
    ),
    "clash": (lambda c: (c.record_histogram("a", 1), c.set_gauge("a_count", 1)), "has the same exported name as 'a'"),
    "clash back": (
        lambda c: (c.set_gauge("a_sum", 1), c.record_histogram("a", 1)),
        "has the same exported name as 'a_sum'",
    ),
    "same base": (lambda c: (c.set_gauge("a", 1), c.increment_counter("a")), "has the same exported name as 'a'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_prometheus_can_not_take_is_refused(case):
    act, message = BAD[case]
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        act(MetricsCollector())


async def test_labels_values_are_anything(make, scraped):
    nexus = make()
    collector = nexus.metrics_collector
    for value in ('a"b\\c', "line\nbreak", "\x1b[31m", "é\u2028", "x" * 5000, 7, None, 3.5):
        collector.increment_counter("odd", {"value": value})
    async with nexus:
        found = await scraped(nexus)
    values = {dict(labels)["value"] for labels in found.series("odd_total")}
    assert {'a"b\\c', "line\\u000abreak", "7", "None", "3.5"} < values
    assert max(map(len, values)) == 100


async def test_series_are_bounded(make, scraped):
    nexus = make()
    collector = nexus.metrics_collector
    for number in range(MAX_SERIES + 500):
        collector.increment_counter("users", {"id": number, "kind": "a"})
        collector.record_histogram("seconds", 1, {"id": number})
    async with nexus:
        found = await scraped(nexus)
    assert len(found.series("users_total")) == MAX_SERIES + 1
    assert found.value("users_total", id="other", kind="other") == 500
    assert found.value("seconds_count", id="other") == 500
    assert found.value("nexus_metrics_overflowed_total", collector="MetricsCollector") == 1000


def test_metrics_are_bounded():
    collector = MetricsCollector()
    for number in range(1000):
        collector.set_gauge(f"m{number}", 1)
    with pytest.raises(ValueError, match="1000 metrics already: 'more' is one too many"):
        collector.set_gauge("more", 1)


def test_threads_lose_nothing():
    collector = MetricsCollector()

    def count():
        for number in range(2000):
            collector.increment_counter("cups", {"n": number % 7})
            collector.record_histogram("seconds", 0.1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counter, histogram = metrics_of(collector).families()
    assert sum(counter.numbers.values()) == 16_000
    assert sum(histogram.distributions[()].counts) == 16_000


class TestHarm:
    """Collectors that do not behave."""

    async def test_raising(self, make, scraped, caplog):
        class Raising(MetricsCollector):
            def collect_workflow_metrics(self, workflow_name, duration, success):
                told.append(workflow_name)
                raise KeyError("no")

            def collect_channel_metrics(self, channel, request_count, error_count):
                raise SystemExit(3)

        told = []
        nexus, good = make(), CustomMetricsCollector()
        nexus.register_metrics_collector(Raising())
        nexus.register_metrics_collector(good)
        add_work(nexus)
        async with nexus:
            for _ in range(20):
                await call(nexus)
            await eventually(lambda: len(told) == 20)
            for _ in range(3):
                found = await scraped(nexus)
        assert found.value("channel_active_requests", channel="api") == 0
        assert caplog.text.count("The metrics collector Raising raised") == 2

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
    async def test_raising_what_ends_processes_in_async_ones(self, make, scraped, error):
        class Raising(MetricsCollector):
            async def collect_workflow_metrics(self, workflow_name, duration, success):
                told.append(workflow_name)
                raise error

            async def collect_channel_metrics(self, channel, request_count, error_count):
                raise error

        told = []
        nexus = make()
        nexus.register_metrics_collector(Raising())
        add_work(nexus)
        async with nexus:
            for count in range(1, 4):
                await call(nexus)
                await eventually(lambda count=count: len(told) == count)
                assert (await scraped(nexus)).value("nexus_workflows_limit") == 100

    async def test_names_of_its_own_do_no_harm(self, make, scraped):
        class Own(MetricsCollector):
            def __init__(self):
                self.metrics = {}
                self.families = self.name = None

        nexus = make()
        nexus.register_metrics_collector(Own())
        nexus.metrics_collector.increment_counter("cups")
        async with nexus:
            assert (await scraped(nexus)).value("cups_total") == 1

    async def test_one_that_can_not_be_read_takes_nothing_with_it(self, make, scraped, caplog):
        class Broken(MetricsCollector):
            _own_metrics = None

        nexus = make()
        nexus.register_metrics_collector(Broken())
        async with nexus:
            for _ in range(2):
                assert (await scraped(nexus)).value("nexus_workflows_limit") == 100
        assert caplog.text.count("The metrics of Broken can't be read") == 1

    async def test_a_slow_one_is_told_of_every_error(self, make, scraped, monkeypatch):
        monkeypatch.setattr("nexus_metrics.dispatcher.CHANNEL_SECONDS", 0.02)

        class Slow(MetricsCollector):
            def collect_channel_metrics(self, channel, request_count, error_count):
                told.append(error_count)
                go_on.wait(30)

        told, go_on = [], threading.Event()
        nexus = make()
        nexus.register_metrics_collector(Slow())
        add_work(nexus)
        try:
            async with nexus:
                for _ in range(3):
                    for _ in range(10):
                        await call(nexus, fail=True)
                    await scraped(nexus)
                assert told == [10]
                go_on.set()

                async def is_told():
                    await scraped(nexus)
                    return sum(told) == 30

                await until(is_told)
        finally:
            go_on.set()

    async def test_hanging(self, make, scraped, monkeypatch):
        monkeypatch.setattr("nexus_metrics.dispatcher.BACKLOG", 5)
        monkeypatch.setattr("nexus_metrics.dispatcher.CHANNEL_SECONDS", 0.05)
        monkeypatch.setattr("nexus_metrics.dispatcher.END_SECONDS", 0.05)

        class Hanging(MetricsCollector):
            def collect_workflow_metrics(self, workflow_name, duration, success):
                begun.set()
                go_on.wait(30)

            def collect_channel_metrics(self, channel, request_count, error_count):
                asked.append(channel)
                go_on.wait(30)

        begun, go_on, asked = threading.Event(), threading.Event(), []
        nexus = make()
        nexus.register_metrics_collector(Hanging())
        add_work(nexus)
        try:
            async with nexus:
                await call(nexus)
                await eventually(begun.is_set)
                for _ in range(25):
                    await call(nexus)
                for _ in range(3):
                    found = await scraped(nexus)
                assert found.value("nexus_metrics_dropped_total", collector="Hanging") == 20
                assert asked == ["api"]
                threads = found.value("nexus_threads")
                for _ in range(3):
                    found = await scraped(nexus)
                assert found.value("nexus_threads") <= threads + 1
        finally:
            go_on.set()

    async def test_async_ones_are_awaited(self, make, scraped):
        class Async(MetricsCollector):
            async def collect_workflow_metrics(self, workflow_name, duration, success):
                await asyncio.sleep(0)
                self.increment_counter("runs", {"workflow": workflow_name})

            async def collect_channel_metrics(self, channel, request_count, error_count):
                await asyncio.sleep(0)
                self.set_gauge("asked", 1)

        nexus = make()
        nexus.register_metrics_collector(Async())
        add_work(nexus)
        async with nexus:
            for _ in range(5):
                await call(nexus)

            async def is_told():
                found = await scraped(nexus)
                return found.value("runs_total", workflow="work") == 5 and found.value("asked") == 1

            await until(is_told)

    async def test_runs_are_told_in_order(self, make):
        class Ordered(MetricsCollector):
            def collect_workflow_metrics(self, workflow_name, duration, success):
                told.append(int(workflow_name.removeprefix("w")))

        told = []
        nexus = make()
        nexus.register_metrics_collector(Ordered())
        for number in range(50):
            nexus.register(f"w{number}", lambda: 1)
        async with nexus:
            for number in range(50):
                await nexus.invoke(f"w{number}")
            await eventually(lambda: len(told) == 50)
        assert told == list(range(50))


def test_the_exporter_says_what_is_missing(make):
    with pytest.raises(ConfigurationError, match="enable_monitoring"):
        PrometheusExporter(make(enable_monitoring=False))
    with pytest.raises(ConfigurationError, match='the plugin "metrics"'):
        PrometheusExporter(Nexus(discover=False))


async def test_both_formats(make, parse):
    nexus = make()
    add_work(nexus)
    async with nexus:
        await call(nexus)
        exporter = PrometheusExporter(nexus)
        assert parse(exporter.render().decode()).value("nexus_workflows_limit") == 100
        from prometheus_client.openmetrics.parser import text_string_to_metric_families

        text = exporter.render(openmetrics=True).decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["nexus_calls"].type == "counter"
        assert re.search(r"# EOF\n\Z", text)
