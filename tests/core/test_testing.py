"""What `nexus_core.testing.stage_of` finds, and what it says where it finds none or several."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_core import Stage, hookimpl
from nexus_core.testing import stage_of, stages_of


class Passes:
    stage = Stage.LIMIT

    def __init__(self, *more: Any) -> None:
        self.more = more

    @hookimpl
    def nexus_register_interceptors(self) -> list[Any]:
        return [self, *self.more]

    async def __call__(self, invocation: Any, call_next: Any) -> Any:
        return await call_next(invocation)


async def test_it_is_the_interceptor_that_was_registered_and_not_its_guard(make: Any) -> None:
    passes = Passes()
    async with make(passes) as nexus:
        assert stage_of(nexus, Stage.LIMIT) is passes
        assert stage_of(nexus, Stage.ADMIT).in_use == 0


async def test_none_or_several_are_an_error_that_names_what_there_is(make: Any) -> None:
    async with make(Passes(Passes())) as nexus:
        with pytest.raises(LookupError, match=r"2 interceptors at stage 30; .*Admission \(10\), .*Passes \(30\)"):
            stage_of(nexus, Stage.LIMIT)
        with pytest.raises(LookupError, match="0 interceptors at stage 80"):
            stage_of(nexus, Stage.CACHE)
    assert stages_of(nexus) == []
    with pytest.raises(LookupError, match="not started"):
        stage_of(nexus, Stage.ADMIT)
