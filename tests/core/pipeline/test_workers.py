"""Processes that only take calls, processes that only work, and what is seen of the runs that wait between them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from memory_engine import Gives, Journals

from nexus_core import Caller, Channel, Nexus, hookimpl
from nexus_core.app import ports
from nexus_core.errors import ConfigurationError, RunInterrupted
from nexus_core.testing import eventually

if TYPE_CHECKING:
    import socket

    from nexus_core import ChannelEvent

OPTIONS: dict[str, Any] = {"run_store": "kept", "run_engine": "memory", "discover": False}


def platform(journals: Journals, **options: Any) -> Nexus:
    nexus = Nexus(plugins=[Gives(journals)], **OPTIONS | options)

    @nexus.workflow(durable=True)
    async def pay(amount: int) -> int:
        return amount

    @nexus.workflow(durable=True)
    async def ship() -> str:
        return "shipped"

    return nexus


async def shown(nexus: Nexus, run_id: str) -> tuple[Any, ...]:
    members = (await (await nexus.view(Caller())).run(run_id)).to_dict()
    return members["status"], members.get("position"), members.get("waiting_for")


async def test_waiting_runs_say_where_they_are_and_what_for(caplog: pytest.LogCaptureFixture) -> None:
    journals = Journals()
    told: list[ChannelEvent] = []
    async with platform(journals, run_work=False) as gateway:
        gateway.register_event_handler(told.append)
        calls = [asyncio.ensure_future(gateway.invoke("pay", {"amount": number})) for number in range(2)]
        await eventually(lambda: len(journals.tasks) == 2, 20)
        first, second = journals.tasks
        assert await shown(gateway, first) == ("pending", 0, "no_worker")
        async with platform(journals, run_only=["ship"]) as other:
            assert await shown(other, second) == ("pending", 1, "no_worker")
        durable = gateway._state.running.durable  # type: ignore[union-attr]
        assert durable is not None
        with caplog.at_level(logging.INFO, "nexus_core"):
            for _ in range(2):
                await durable.sweep(time.time())
        await eventually(
            lambda: [event.data for event in told if event.type == "workflow.unserved"] == [{"runs": 2}], 20
        )
        assert caplog.text.count("No process can work on 2 waiting runs of pay") == 1
        durable.engine.is_away = True  # type: ignore[attr-defined]
        assert await shown(gateway, first) == ("pending", None, None)
        durable.engine.is_away = False  # type: ignore[attr-defined]
        async with platform(journals, run_only=["pay"]):
            assert sorted([(await call).value for call in calls]) == [0, 1]
            assert await shown(gateway, first) == ("completed", None, None)
            with caplog.at_level(logging.INFO, "nexus_core"):
                await durable.sweep(time.time())
        assert "The runs of pay are worked on again" in caplog.text


async def test_wrong_names_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"run_only: there is no workflow 'shop'; did you mean 'ship'\?"):
        async with platform(Journals(), run_only=["shop"]):
            pass


async def test_a_run_at_work_that_the_engine_does_not_know_is_ended() -> None:
    """As after the restore of a backup whose run store is newer than its engine."""
    journals, begun, go_on = Journals(), asyncio.Event(), asyncio.Event()
    gateway = platform(journals, run_work=False)
    worker = platform(journals)
    for nexus in (gateway, worker):

        @nexus.workflow(durable=True)
        async def wait() -> None:
            begun.set()
            await go_on.wait()

    async with gateway:
        async with worker:
            calling = asyncio.ensure_future(gateway.invoke("wait"))
            await asyncio.wait_for(begun.wait(), 20)
        journals.tasks.clear()
        durable = gateway._state.running.durable  # type: ignore[union-attr]
        assert durable is not None
        await durable.sweep(time.time() + 60)
        with pytest.raises(RunInterrupted):
            await asyncio.wait_for(calling, 20)


async def test_a_worker_needs_no_server_for_a_channel_that_serves_itself() -> None:
    class Probes(Channel):
        name, port, serves_workers, serves_itself = "probes", 0, True, True
        served: ClassVar[list[int]] = []

        def serve(self, bound: socket.socket) -> None:
            self.served.append(bound.getsockname()[1])
            bound.close()

    class Plugin:
        @hookimpl
        def nexus_register_channels(self) -> list[Channel]:
            return [Probes()]

    nexus = Nexus(plugins=[Gives(Journals()), Plugin()], **OPTIONS)

    @nexus.workflow(durable=True)
    async def pay() -> int:
        return 1

    state, controller = nexus._state, nexus._controller
    async with ports.serving(state, controller.enter, controller.stop, only_works=True) as bound:
        assert bound == []
        assert len(Probes.served) == 1
