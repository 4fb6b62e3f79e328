"""Several processes on one machine: their numbers add up, whoever is asked and however they end."""

from __future__ import annotations

import json
import signal
import time

import pytest
from nexus_metrics.families import COUNTER, GAUGE, HISTOGRAM, Distribution, Family, summed
from nexus_metrics.multiprocess import MultiprocessMetrics
from served_process import ServedProcess, free_port

from nexus_core import ConfigurationError
from nexus_core.testing import eventually

httpx2 = pytest.importorskip("httpx2")
for name in ("api", "hypercorn"):
    pytest.importorskip(f"nexus_{name}.plugin")

APP = """
from nexus_core import Nexus
from nexus_metrics import MetricsCollector

nexus = Nexus(disabled_plugins=["auth", "cache", "mcp", "kailash", "cli", "health", "sessions", "tracing", "logs"])
nexus.register_metrics_collector(MetricsCollector())

@nexus.workflow
async def work() -> int:
    nexus.metrics_collector.increment_counter("cups", {"size": "large"})
    nexus.metrics_collector.record_histogram("brewing_seconds", 0.1)
    return 1

nexus.start()
"""


class Served(ServedProcess):
    def call(self, times):
        with httpx2.Client(base_url=self.url()) as client:
            for _ in range(times):
                assert client.post("/api/workflows/work/execute", json={}).status_code == 200


@pytest.fixture(name="served")
def served_fixture(tmp_path):
    tmp_path.joinpath("app.py").write_text(APP)
    port, started = free_port(), []
    options = {
        "NEXUS_METRICS_PORT": str(port), "NEXUS_ENABLE_METRICS": "true",
        "NEXUS_METRICS_MULTIPROCESS_DIR": str(tmp_path / "numbers"),
    }  # fmt: skip

    def start():
        started.append(Served(tmp_path, options=options, arguments=["app.py"]))
        return started[-1]

    start.url = f"http://127.0.0.1:{port}/metrics"
    yield start
    for each in started:
        each.end(signal.SIGKILL)


def test_processes_add_up_and_counters_never_fall(served, parse):
    def read():
        return parse(httpx2.get(served.url).text)  # a new connection each time: any of them may answer

    def calls():
        found = read()
        counted = found.sum("nexus_calls_total", workflow="work")
        assert counted >= calls.before
        calls.before = counted
        return counted

    calls.before = 0
    first, second, third = served(), served(), served()
    for number, each in enumerate((first, second, third), 1):
        each.call(number * 10)
    end = time.monotonic() + 20
    while calls() < 60:  # others leave their numbers every second
        assert time.monotonic() < end
        time.sleep(0.02)
    assert {calls() for _ in range(20)} == {60}
    found = read()
    assert found.sum("cups_total", size="large") == 60
    assert found.value("brewing_seconds_count") == 60
    assert found.value("nexus_workflows_limit") == 300
    assert found.value("nexus_plugin_active", plugin="metrics") == 1
    first.end(signal.SIGKILL)
    assert {calls() for _ in range(10)} == {60}
    second.end(signal.SIGTERM)
    assert {calls() for _ in range(10)} == {60}
    assert read().value("nexus_workflows_limit") == 100
    third.call(5)
    assert {calls() for _ in range(10)} == {65}
    fourth = served()
    fourth.call(5)
    while calls() < 70:
        time.sleep(0.02)
    third.end(signal.SIGKILL)
    fourth.end(signal.SIGKILL)
    served()
    assert read().sum("nexus_calls_total", workflow="work") == 0  # all had ended: it begins anew


def own(count):
    return [
        Family("cups_total", COUNTER, "Cups.", ("size",), {("large",): count}),
        Family("litres", GAUGE, "Litres.", (), {(): count}),
    ]


def numbers(families):
    return {family.name: family.numbers for family in families}


@pytest.fixture(name="join")
def join_fixture(tmp_path):
    joined = []

    def join(count):
        joined.append(MultiprocessMetrics(tmp_path, lambda: own(count)))
        return joined[-1]

    yield join
    for each in joined:
        each.close(own(0))


async def test_what_is_left_by_nobody_is_thrown_away(join, tmp_path):
    (tmp_path / "1-old.json").write_bytes(b"[]")
    (tmp_path / "1-old.lock").write_bytes(b"")
    (tmp_path / "ended.json").write_text(json.dumps([["cups_total", "counter", "", ["size"], [[["large"], 9]], []]]))
    one = join(1)
    assert numbers(one.all(own(1))) == {"cups_total": {("large",): 1}, "litres": {(): 1}}
    assert not (tmp_path / "1-old.json").exists()
    assert not (tmp_path / "1-old.lock").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[1]", b'[["a"]]', b"\xff", b'[["a","counter","",["x"],[[1]],[]]]']
)
async def test_files_that_hold_nonsense_are_passed_over(join, tmp_path, content):
    one = join(1)
    (tmp_path / "1-other.json").write_bytes(content)
    (tmp_path / "ended.json").write_bytes(content)
    assert numbers(one.all(own(1)))["cups_total"] == {("large",): 1}


async def test_one_family_that_is_nonsense_takes_no_other_with_it(join, tmp_path):
    one = join(1)
    good, bad = (
        ["cups_total", "counter", "", ["size"], [[["large"], 9]], []],
        ["litres", "gauge", "", [], [[[], None]], []],
    )
    (tmp_path / "ended.json").write_text(json.dumps([bad, good]))
    assert numbers(one.all(own(1)))["cups_total"] == {("large",): 10}


async def test_copies_are_left_also_after_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("nexus_metrics.multiprocess.SECONDS", 0.01)
    reads = []

    def read():
        reads.append(1)
        if len(reads) < 3:
            raise KeyError
        return own(1)

    one = MultiprocessMetrics(tmp_path, read)
    await eventually(lambda: list(tmp_path.glob("*-*.json")))
    one.close(own(1))


async def test_copies_are_left_from_time_to_time(join, monkeypatch):
    monkeypatch.setattr("nexus_metrics.multiprocess.SECONDS", 0.02)
    one, two = join(1), join(5)
    await eventually(lambda: numbers(one.all(own(1)))["cups_total"] == {("large",): 6})
    assert numbers(two.all(own(5)))["litres"] == {(): 6}


def test_a_folder_that_can_not_be_written_stops_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"metrics_multiprocess_dir: .* can't be written"):
        MultiprocessMetrics(tmp_path / "file" / "folder", list)


def test_gauges_that_have_no_sum():
    def family(name, number, kind=GAUGE):
        return Family(name, kind, "", (), {(): number})

    every = [family("redis_up", 1.0), family("redis_up", 0.0), family("a_state", 0.0), family("a_state", 1.0)]
    every += [family("a_seconds", 2.0), family("a_seconds", 3.0), family("b_seconds", 2.0, COUNTER)]
    every += [family("b_seconds", 3.0, COUNTER), family("memory_bytes", 2.0), family("memory_bytes", 3.0)]
    assert {each.name: each.numbers[()] for each in summed(every)} == {
        "redis_up": 0, "a_state": 1, "a_seconds": 3, "b_seconds": 5, "memory_bytes": 5,
    }  # fmt: skip


def test_histograms_add_up_and_the_sum_is_nobodys():
    one, other = Distribution((1.0, 2.0)), Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9):
        one.observe(value)
    other.observe(1.5)
    families = [Family("s", HISTOGRAM, "", (), {}, {(): each}) for each in (one, other)]
    (total,) = summed(families)
    assert (total.distributions[()].counts, total.distributions[()].sum) == ([2, 2, 1], 13.5)
    assert (one.counts, other.counts) == ([2, 1, 1], [0, 1, 0])
