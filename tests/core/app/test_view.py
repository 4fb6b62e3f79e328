"""What a caller must be allowed to do, beside calling workflows."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_core import Caller, PermissionDenied, Principal, hookimpl


class Authorizing:
    """Grants what the principal has."""

    @hookimpl
    def nexus_register_authorizers(self, nexus: Any) -> list[Any]:
        return [self]

    async def granted(self, principal: Principal | None, permissions: frozenset[str]) -> Any:
        return permissions & principal.permissions if principal else ()


async def test_a_view_asks_those_who_decide(make: Any) -> None:
    async with make(Authorizing()) as nexus:
        ann = await nexus.view(Caller(principal=Principal("ann", frozenset({"a.read", "b.read"}))))
        await ann.require("a.read", "b.read")
        with pytest.raises(PermissionDenied, match=r"the permission c\.read\.") as refused:
            await ann.require("a.read", "c.read")
        assert refused.value.problem()["missing_permissions"] == ["c.read"]
        with pytest.raises(PermissionDenied):
            await (await nexus.view(Caller())).require("a.read")


async def test_where_nobody_decides_everybody_may(make: Any) -> None:
    async with make() as nexus:
        await (await nexus.view(Caller())).require("a.read")
