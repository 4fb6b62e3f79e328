"""What the options and workflows' metadata say of the backends."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_core import Caller, ConfigurationError, Invocation, hookimpl
from nexus_core.runs.listing import filter_of
from nexus_core.runs.memory import MemoryRunStore

SECONDS = 20.0


class Gives:
    """A plugin with a run store."""

    @hookimpl
    def nexus_register_run_stores(self) -> list[Any]:
        store = MemoryRunStore()
        store.name = "kept"
        return [store]


async def work() -> int:
    return 1


async def test_a_workflow_may_keep_fewer_runs(make: Any) -> None:
    nexus = make(Gives(), run_store="kept", run_store_days=None, run_store_max_runs=None, run_history=0)
    nexus.register("all", work)
    async with nexus:
        nexus.register("few", work, {"run_store_max_runs": 2})  # after the start
        for name in ["all", "few"] * 4:
            assert await nexus.submit(Invocation(name, {})).wait(SECONDS)
        me = await nexus.view(Caller())
        assert (await me.prune(dry_run=True))["runs"] == 2
        assert await me.prune() | {"bytes": 0} == {"runs": 2, "bytes": 0, "complete": True, "dry_run": False}
        counts = {name: len((await me.page(filter_of({"workflow": name})))["runs"]) for name in ("all", "few")}
        assert counts == {"all": 4, "few": 2}


@pytest.mark.parametrize("key", ["run_store_days", "run_store_max_runs", "run_store_max_bytes"])
@pytest.mark.parametrize("value", [0, -1, "3", True])
def test_limits_of_a_workflow_are_checked(make: Any, key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"metadata\['{key}'\] must be a number above 0"):
        make().register("work", work, {key: value})
