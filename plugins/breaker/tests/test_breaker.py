"""A circuit that one process has for itself: what opens it, what closes it, what it does not concern."""

from __future__ import annotations

import asyncio
import gc
import logging

import nexus_breaker.plugin
import pytest

from nexus_core import (
    CircuitOpen,
    ConfigurationError,
    Invocation,
    Nexus,
    Stage,
    ValidationError,
    WorkflowError,
    WorkflowFailed,
    WorkflowTimeout,
)
from nexus_core.testing import eventually, stage_of, stages_of


async def test_off_it_is_not_there():
    async with Nexus(discover=False, plugins=[nexus_breaker.plugin.BreakerPlugin]) as nexus:
        assert not [each for each in stages_of(nexus) if each.stage == Stage.BREAKER]


async def test_what_fails_again_and_again_is_refused_and_does_not_run(shop, caplog):
    assert await shop.fail(5) == [WorkflowFailed] * 5
    with pytest.raises(CircuitOpen) as refused:
        await shop.nexus.invoke("order")
    assert shop.ran == 5
    assert 59 < refused.value.retry_after <= 60
    assert refused.value.run_id is None
    assert refused.value.problem()["status"] == 503
    told = [record.getMessage() for record in caplog.records if record.name.startswith("nexus_breaker")]
    assert told == ['The circuit of "order" is open for 60 s, after 5 failures']


async def test_a_success_in_between_counts_from_nothing(shop):
    for _ in range(3):
        await shop.fail(4)
        assert await shop.call() == "ordered"
    await shop.fail(4)
    assert not await shop.is_open()


async def test_each_workflow_has_a_circuit_of_its_own(shop):
    shop.register("other")
    await shop.fail(5)
    assert await shop.is_open()
    assert await shop.call("other") == "ordered"


async def test_after_a_while_a_call_that_succeeds_closes_it(open_shop, comes_to, caplog):
    caplog.set_level(logging.INFO, "nexus_breaker")
    shop = await open_shop(circuit_breaker_reset_timeout=1)
    events = []
    shop.nexus.events.listen(lambda event: events.append((event.type, event.data)))
    await shop.fail(5)
    assert await shop.is_open()
    await comes_to(shop.call, "ordered")
    assert await shop.call() == "ordered"
    assert "is closed again" in caplog.text
    circuit = [event for event in events if event[0].startswith("circuit.")]
    assert circuit == [("circuit.opened", {"failures": 5, "seconds": 1}), ("circuit.closed", None)]
    await shop.fail(4)
    assert not await shop.is_open()


async def test_after_a_while_a_call_that_fails_opens_it_again(open_shop, comes_to):
    shop = await open_shop(circuit_breaker_reset_timeout=1)
    await shop.fail(5)
    shop.error = RuntimeError("still broken")
    await comes_to(shop.call, WorkflowFailed)
    assert shop.ran == 6
    assert await shop.is_open()
    shop.error = None
    await comes_to(shop.call, "ordered")


async def test_of_many_calls_exactly_one_is_the_probe(open_shop):
    shop = await open_shop(circuit_breaker_reset_timeout=1)
    await shop.fail(5)
    probe = await shop.probe()
    assert await asyncio.gather(*(shop.call() for _ in range(50))) == [CircuitOpen] * 50
    with pytest.raises(CircuitOpen) as refused:
        await shop.nexus.invoke("order")
    assert 0 < refused.value.retry_after <= 1
    assert shop.ran == 6
    shop.gate.set()
    assert await probe == "ordered"
    assert await shop.call() == "ordered"


async def test_a_probe_that_is_cancelled_leaves_its_place_to_the_next(open_shop, comes_to):
    shop = await open_shop(circuit_breaker_reset_timeout=1)
    await shop.fail(5)
    probe = await shop.probe()
    probe.cancel()
    await asyncio.wait([probe])
    shop.gate.set()
    assert await shop.call() == "ordered"


async def test_a_probe_whose_run_is_cancelled_leaves_its_place_to_the_next(open_shop):
    shop = await open_shop(circuit_breaker_reset_timeout=1)
    await shop.fail(5)
    probe = await shop.probe()
    (run,) = shop.nexus.runs.running()
    run.cancel()
    await probe
    shop.gate.set()
    assert await shop.call() == "ordered"


async def test_what_the_caller_did_wrong_is_no_failure(shop):
    class OutOfStock(WorkflowError):
        code, status, exit_code = "out_of_stock", 409, 65

    for _ in range(10):
        with pytest.raises(ValidationError):
            await shop.nexus.invoke("order", {"n": "many"})
    shop.error = OutOfStock("There are none left.")
    for _ in range(10):
        with pytest.raises(OutOfStock):
            await shop.nexus.invoke("order")
    assert not await shop.is_open()


async def test_what_the_caller_did_wrong_is_no_success_either(shop):
    await shop.fail(4)
    with pytest.raises(ValidationError):
        await shop.nexus.invoke("order", {"n": "many"})
    await shop.fail(1)
    assert await shop.is_open()


async def test_what_a_workflow_says_of_itself_is_a_failure(shop):
    shop.error = WorkflowError("The warehouse does not answer.")
    assert [await shop.call() for _ in range(5)] == [WorkflowError] * 5
    assert await shop.is_open()


async def test_a_workflow_that_is_too_slow_fails(shop):
    shop.register(timeout=0.02)
    shop.gate = asyncio.Event()
    assert [await shop.call() for _ in range(5)] == [WorkflowTimeout] * 5
    assert await shop.is_open()


async def test_a_caller_that_does_not_wait_is_no_failure(shop):
    shop.gate = asyncio.Event()
    for _ in range(10):
        with pytest.raises(WorkflowTimeout):
            await shop.nexus.invoke(Invocation("order", {}, timeout=0.01))
    shop.gate.set()
    assert await shop.call() == "ordered"


async def test_a_cancelled_run_is_no_failure(shop):
    shop.gate = asyncio.Event()
    for i in range(10):
        call = asyncio.create_task(shop.call())
        await eventually(lambda i=i: shop.ran == i + 1)
        call.cancel()
        await asyncio.wait([call])
    shop.gate.set()
    assert await shop.call() == "ordered"


async def test_what_began_before_it_closed_does_not_open_it_anew(open_shop, comes_to):
    shop = await open_shop(circuit_breaker_reset_timeout=1)
    shop.gate = gate = asyncio.Event()
    slow = [asyncio.create_task(shop.call()) for _ in range(10)]
    await eventually(lambda: shop.ran == 10)
    shop.gate = None
    await shop.fail(5)
    await comes_to(shop.call, "ordered")
    shop.error = RuntimeError("late")
    gate.set()
    assert await asyncio.gather(*slow) == [WorkflowFailed] * 10
    shop.error = None
    assert await shop.call() == "ordered"


async def test_a_workflow_in_the_place_of_another_begins_anew(shop):
    await shop.fail(5)
    assert await shop.is_open()
    shop.register()
    assert await shop.call() == "ordered"


async def test_metadata_switches_it_off(shop):
    shop.register(circuit_breaker=False)
    await shop.fail(20)
    assert await shop.call() == "ordered"


async def test_metadata_has_rules_of_its_own(shop):
    shop.register(circuit_breaker={"failure_threshold": 2, "reset_timeout": 7})
    await shop.fail(2)
    with pytest.raises(CircuitOpen) as refused:
        await shop.nexus.invoke("order")
    assert 6 < refused.value.retry_after <= 7
    shop.register(circuit_breaker={"reset_timeout": 7})
    await shop.fail(4)
    assert not await shop.is_open()


WRONG = ["off", 3, None, {"threshold": 3}, {"failure_threshold": 0}, {"failure_threshold": True}, {"reset_timeout": -1}]


@pytest.mark.parametrize("given", WRONG, ids=str)
async def test_metadata_that_is_wrong_stops_the_start(given):
    nexus = Nexus(discover=False, plugins=[nexus_breaker.plugin.BreakerPlugin], enable_circuit_breaker=True)
    nexus.register("order", lambda: None, {"circuit_breaker": given})
    with pytest.raises(ConfigurationError, match='The metadata circuit_breaker of the workflow "order"'):
        await nexus.__aenter__()


async def test_metadata_that_is_wrong_later_is_logged_once_and_the_options_hold(shop, caplog):
    shop.register(circuit_breaker={"failure_threshold": "many"})
    await shop.fail(5)
    assert await shop.is_open()
    assert caplog.text.count('The metadata circuit_breaker of the workflow "order"') == 1


@pytest.mark.parametrize(
    "options", [{"circuit_breaker_failure_threshold": 0}, {"circuit_breaker_reset_timeout": 0}], ids=str
)
def test_options_are_bounded(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Nexus(discover=False, plugins=[nexus_breaker.plugin.BreakerPlugin], **options)


async def test_a_store_that_is_not_there_stops_the_start():
    nexus = Nexus(
        discover=False,
        plugins=[nexus_breaker.plugin.BreakerPlugin],
        enable_circuit_breaker=True,
        circuit_breaker_backend="redis",
    )
    with pytest.raises(ConfigurationError, match="circuit_breaker_backend: there is no store 'redis'"):
        await nexus.__aenter__()


async def test_circuits_of_workflows_that_are_gone_are_gone(shop):
    import gc

    await shop.call()
    breaker = stage_of(shop.nexus, Stage.BREAKER)
    for i in range(20):
        shop.register(f"w{i}")
        await shop.call(f"w{i}")
        shop.nexus.unregister(f"w{i}")
    gc.collect()
    assert len(breaker) == 1


def measured(nexus):
    (found,) = [each for each in nexus.measurements() if each.name == "nexus_circuit_state"]
    return {labels for labels, number in found.read() if number == 1}


async def test_how_circuits_stand_can_be_measured(shop):
    assert measured(shop.nexus) == set()
    await shop.fail(1)
    assert measured(shop.nexus) == {("order", "closed")}
    await shop.fail(5)
    assert measured(shop.nexus) == {("order", "open")}
    shop.nexus.unregister("order")
    gc.collect()
    assert measured(shop.nexus) == set()
