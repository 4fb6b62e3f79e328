"""What is counted of calls, and that no caller can make series."""

from __future__ import annotations

import asyncio
import time

import pytest

from nexus_core import Caller, ConfigurationError, Invocation, NexusError, WorkflowError
from nexus_core.testing import stages_of

WORK = {"workflow": "work", "channel": "api"}


@pytest.fixture(name="nexus")
async def nexus_fixture(make):
    nexus = make()

    @nexus.workflow
    async def work(fail: bool = False) -> int:
        if fail:
            raise WorkflowError("no")
        return 7

    async with nexus:
        yield nexus


async def call(nexus, name="work", params=None, channel="api", **given):
    try:
        return await nexus.invoke(Invocation(name, params or {}, channel, **given))
    except NexusError as exc:
        return exc


async def test_calls_are_counted_by_what_became_of_them(nexus, scraped):
    for _ in range(3):
        await call(nexus)
    await call(nexus, params={"fail": True})
    await call(nexus, params={"wrong": 1})
    await call(nexus, idempotency_key="k")
    await call(nexus, idempotency_key="k")
    await call(nexus, channel="mcp")
    await call(nexus, "unknown")
    found = await scraped(nexus)
    counted = {
        (dict(labels)["channel"], dict(labels)["outcome"], dict(labels)["code"]): found.samples[
            "nexus_calls_total", labels
        ]
        for labels in found.series("nexus_calls_total")
    }
    assert counted == {
        ("api", "completed", ""): 4,
        ("api", "failed", "workflow_error"): 1,
        ("api", "refused", "validation_error"): 1,
        ("api", "replayed", ""): 1,
        ("mcp", "completed", ""): 1,
        ("api", "refused", "workflow_not_found"): 1,
    }
    assert found.value("nexus_call_seconds_count", **WORK) == 7
    assert found.value("nexus_run_seconds_count", **WORK) == 5
    assert found.value("nexus_wait_seconds_count", **WORK) == 4
    assert 0 < found.value("nexus_run_seconds_sum", **WORK) < found.value("nexus_call_seconds_sum", **WORK) < 10
    assert found.value("nexus_call_seconds_bucket", **WORK, le="+Inf") == 7


async def test_calls_in_flight(nexus, scraped):
    begun, go_on = asyncio.Event(), asyncio.Event()

    @nexus.workflow
    async def wait() -> None:
        begun.set()
        await go_on.wait()

    task = asyncio.create_task(call(nexus, "wait"))
    await begun.wait()
    assert (await scraped(nexus)).value("nexus_calls_in_flight", workflow="wait", channel="api") == 1
    go_on.set()
    await task
    assert (await scraped(nexus)).value("nexus_calls_in_flight", workflow="wait", channel="api") == 0


async def test_cancelled_calls_are_counted(nexus, scraped):
    begun = asyncio.Event()

    @nexus.workflow
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(nexus.invoke(Invocation("wait", {}, "api")))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    found = await scraped(nexus)
    assert found.sum("nexus_calls_total", workflow="wait", outcome="cancelled") == 1
    assert found.value("nexus_calls_in_flight", workflow="wait", channel="api") == 0


async def test_no_caller_makes_series(nexus, scraped):
    before = len((await scraped(nexus)).samples)
    for number in range(3000):
        await call(nexus, f"made-up-{number}\n{{}}")
        await call(nexus, channel=f"channel-{number}", session_id=str(number), idempotency_key=str(number))
    after = await scraped(nexus)
    assert after.sum("nexus_calls_total", outcome="refused", code="workflow_not_found") == 3000
    assert after.sum("nexus_calls_total") == 6000
    assert len({dict(labels)["channel"] for labels in after.series("nexus_calls_total")}) <= 21
    assert len(after.samples) - before < 4000
    for number in range(3000):
        await call(nexus, f"again-{number}", channel=f"more-{number}")
    assert len((await scraped(nexus)).samples) <= len(after.samples) + 30


async def test_codes_that_code_makes_up_are_bounded(nexus, scraped):
    @nexus.workflow
    async def moody(number: int) -> None:
        raise type("Mood", (WorkflowError,), {"code": f"mood_{number}"})("no")

    for number in range(500):
        await call(nexus, "moody", {"number": number})
    codes = {dict(labels)["code"] for labels in (await scraped(nexus)).series("nexus_calls_total")}
    assert len(codes) <= 202
    assert "other" in codes


async def test_workflows_that_are_unregistered_are_forgotten(nexus, scraped):
    await call(nexus)
    nexus.unregister("work")
    assert not (await scraped(nexus)).sum("nexus_calls_total", workflow="work")


async def test_events_sessions_and_plugins(nexus, scraped):
    view = await nexus.view(Caller())
    session = await view.create_session("api")
    await view.update_session(session.id, {"a": 1})
    await view.remove_session(session.id)
    await call(nexus)
    found = await scraped(nexus)
    for kind in ("session.created", "session.updated", "session.removed", "workflow.started", "workflow.completed"):
        assert found.value("nexus_events_total", type=kind) == 1
    assert found.value("nexus_plugin_active", plugin="MetricsPlugin") == 1
    assert found.value("nexus_workflows_limit") == 100
    assert found.value("process_resident_memory_bytes") > 1e6
    assert found.value("nexus_event_loop_lag_seconds") >= 0


async def test_the_lag_of_the_event_loop(nexus, scraped):
    await scraped(nexus)
    end = time.monotonic() + 20
    while (await scraped(nexus)).value("nexus_event_loop_lag_seconds") < 0.1:
        time.sleep(0.6)
        assert time.monotonic() < end


async def test_a_measurement_that_fails_takes_nothing_with_it(make, scraped, caplog):
    from nexus_core import hookimpl
    from nexus_core.types.measurement import Measurement

    class Broken:
        __name__ = "broken"

        @hookimpl
        def nexus_register_measurements(self, nexus):
            return [
                Measurement.of("broken_total", "counter", "Raises.", lambda: 1 / 0),
                Measurement("crooked", "gauge", "Too few labels.", ("a", "b"), lambda: [(("one",), 1.0)]),
                Measurement("odd", "gauge", "No number.", (), lambda: [((), "many")]),
                Measurement.of("endless", "gauge", "Not finite.", lambda: float("inf")),
            ]

    async with make(Broken()) as nexus:
        for _ in range(3):
            found = await scraped(nexus)
    assert found.value("nexus_workflows_limit") == 100
    assert caplog.text.count("The measurement broken_total can't be read") == 1
    assert "crooked" not in found.exposed
    assert not {"odd", "endless"} & found.exposed


async def test_a_stages_own_mistake_has_failed(make, scraped):
    from nexus_core import Stage, hookimpl

    class Mistaken:
        __name__ = "mistaken"
        stage = Stage.LIMIT

        @hookimpl
        def nexus_register_interceptors(self, nexus):
            return [self]

        async def __call__(self, invocation, call_next):
            raise KeyError("no")

    nexus = make(Mistaken())
    nexus.register("work", lambda: 1)
    async with nexus:
        await call(nexus)
        found = await scraped(nexus)
    assert found.value("nexus_calls_total", **WORK, outcome="failed", code="internal_error") == 1


async def test_off_there_is_nothing(make):
    async with make(enable_monitoring=False) as nexus:
        with pytest.raises(ConfigurationError, match="set enable_metrics"):
            _ = nexus.metrics_collector
        assert nexus.channel("metrics") is None
        assert not [each for each in stages_of(nexus) if type(each).__name__ == "CallMetrics"]


async def test_a_second_start_goes_on_counting(make, scraped):
    nexus = make()
    nexus.register("work", lambda: 1)
    for count in (1, 2):
        async with nexus:
            await call(nexus)
            found = await scraped(nexus)
            assert found.value("nexus_calls_total", **WORK, outcome="completed", code="") == count
            assert found.value("nexus_events_total", type="workflow.started") == count


async def test_a_measurement_that_hangs_is_left_out(make, scraped, caplog, monkeypatch):
    import itertools
    import threading

    from nexus_core import hookimpl
    from nexus_core.types.measurement import Measurement

    monkeypatch.setattr("nexus_metrics.measurement_reader.READ_SECONDS", 0.2)
    may_go_on, reads = threading.Event(), []

    def hang():
        reads.append(1)
        may_go_on.wait(60)
        return 1.0

    def leave():
        raise SystemExit(3)

    class Hanging:
        @hookimpl
        def nexus_register_measurements(self, nexus):
            return [
                Measurement(
                    "endless", "gauge", "Endless.", ("n",), lambda: (((str(n),), 1) for n in itertools.count())
                ),
                Measurement.of("hanging", "gauge", "Hangs.", hang),
                Measurement.of("leaving", "gauge", "Leaves.", leave),
                Measurement.of("fine", "gauge", "Fine.", lambda: 7),
            ]

    nexus = make(Hanging())
    async with nexus:
        for _ in range(2):
            found = await scraped(nexus)
            assert found.value("fine") == 7
            assert "hanging" not in found.exposed
        assert len(reads) == 1
        may_go_on.set()
        for _ in range(100):
            if "hanging" in (await scraped(nexus)).exposed:
                break
        else:
            raise AssertionError("it is never read again")
    assert caplog.text.count("The measurement hanging did not return within 0.2 s") == 1
    assert "The measurement endless can't be read" in caplog.text
    assert "The measurement leaving can't be read" in caplog.text
