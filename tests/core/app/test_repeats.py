"""Runs that are retried by their callers, in one process with a run store."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_core import Caller, Invocation, Nexus, Principal, RunStatus, WorkflowError, hookimpl
from nexus_core.errors import Conflict, MalformedRequest, RunNotFound
from nexus_core.runs.memory import MemoryRunStore
from nexus_core.runs.record import RunFilter

SECONDS = 20.0


class KeptStore(MemoryRunStore):
    """A run store that takes secrets out of parameters."""

    name = "kept"

    def __init__(self) -> None:
        super().__init__()
        self.redact = lambda _, params: params | {"token": "***"} if "token" in params else params


class GivesStore:
    """A plugin with a run store."""

    @hookimpl
    def nexus_register_run_stores(self) -> list[Any]:
        return [KeptStore()]


class Shop:
    """Workflows that fail until they are mended."""

    def __init__(self) -> None:
        self.is_mended = False
        self.orders: list[dict[str, Any]] = []

    def register(self, nexus: Nexus) -> Nexus:
        @nexus.workflow(version="2")
        async def order(item: str, token: str = "") -> str:
            self.orders.append({"item": item, "token": token})
            if not self.is_mended:
                raise WorkflowError("Sold out.")
            return item

        return nexus


async def _fails(nexus: Nexus, principal: Principal | None = None, **params: Any) -> str:
    run = nexus.submit(Invocation("order", params, principal=principal))
    assert await run.wait(SECONDS)
    assert run.status is RunStatus.FAILED
    return run.id


async def test_a_failed_run_is_retried_with_its_parameters(make: Any) -> None:
    shop = Shop()
    async with shop.register(make(GivesStore(), run_store="kept")) as nexus:
        failed = await _fails(nexus, item="tea")
        shop.is_mended = True
        new = await nexus.retry(failed)
        assert (await new.outcome()).value == "tea"
        shown = (await (await nexus.view(Caller())).run(new.id)).to_dict()
        assert (shown["parent"], shown["version"].partition("+")[0]) == (failed, "2")
        assert shown["version"].partition("+")[2]
        assert shown["schema_hash"]
        before = (await (await nexus.view(Caller())).run(failed)).to_dict()
        assert (before["status"], "parent" in before) == ("failed", False)
    assert [each["item"] for each in shop.orders] == ["tea", "tea"]


async def test_what_can_not_be_retried(make: Any) -> None:
    shop, ann, bob = Shop(), Principal("ann"), Principal("bob")
    async with shop.register(make(GivesStore(), run_store="kept")) as nexus:
        failed = await _fails(nexus, ann, item="tea", token="hush")
        with pytest.raises(Conflict, match="stored without the secrets"):
            await nexus.retry(failed, caller=Caller(principal=ann))
        with pytest.raises(RunNotFound):
            await nexus.retry(failed, caller=Caller(principal=bob))
        with pytest.raises(Conflict, match="is not durable"):
            await nexus.fork(failed, 1, caller=Caller(principal=ann))
    assert len(shop.orders) == 1


async def test_runs_without_a_run_store_are_not_retried(make: Any) -> None:
    async with Shop().register(make()) as nexus:
        failed = await _fails(nexus, item="tea")
        with pytest.raises(Conflict, match="needs a run store"):
            await nexus.retry(failed)
    async with Shop().register(make(GivesStore(), run_store="kept", enable_async_execution=False)) as nexus:
        failed = await _fails(nexus, item="tea")
        with pytest.raises(Conflict, match="enable_async_execution"):
            await nexus.retry(failed)


async def test_a_retry_is_a_call_like_any_other(make: Any) -> None:
    shop = Shop()
    async with shop.register(make(GivesStore(), run_store="kept", max_concurrent_workflows=1)) as nexus:
        failed = await _fails(nexus, item="tea")
        nexus.unregister("order")
        with pytest.raises(Exception, match="order"):
            await nexus.retry(failed)


async def test_many_are_retried_once(make: Any) -> None:
    shop = Shop()
    async with shop.register(make(GivesStore(), run_store="kept")) as nexus:
        failed = [await _fails(nexus, item=str(number)) for number in range(5)]
        repeats = (await nexus.view(Caller())).repeats
        wanted = RunFilter(status=RunStatus.FAILED, workflow="order", limit=3)
        preview = await repeats.retry_all(wanted, None, dry_run=True)
        assert (preview["runs"], preview["first"]) == (3, failed[:1:-1])
        assert preview["next"]
        assert len(shop.orders) == 5
        shop.is_mended = True
        wanted = RunFilter(status=RunStatus.FAILED, workflow="order")
        done = await repeats.retry_all(wanted, "monday", dry_run=False)
        again = await repeats.retry_all(wanted, "monday", dry_run=False)
        assert {each["run_id"] for each in done["retried"]} == {*failed}
        assert (done["refused"], done["left"], again["retried"]) == ([], 0, done["retried"])
        assert len(shop.orders) == 10
        with pytest.raises(MalformedRequest, match="batch"):
            await repeats.retry_all(wanted, None, dry_run=False)
        with pytest.raises(MalformedRequest, match="status"):
            await repeats.retry_all(RunFilter(), "monday", dry_run=False)
