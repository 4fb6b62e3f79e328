"""The stage that asks authorizers: for workflows that require permissions, and for no others."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_core import PermissionDenied, hookimpl


class Grants:
    """An authorizer that grants what it has, and notes what it is asked for."""

    def __init__(self, *permissions: str) -> None:
        self.permissions = set(permissions)
        self.asked: list[frozenset[str]] = []

    async def granted(self, principal: Any, permissions: frozenset[str]) -> set[str]:
        self.asked.append(permissions)
        return self.permissions & permissions


class Gives:
    def __init__(self, *authorizers: Grants) -> None:
        self.authorizers = authorizers

    @hookimpl
    def nexus_register_authorizers(self) -> list[Any]:
        return list(self.authorizers)


async def test_a_workflow_without_permissions_asks_nobody(make: Any) -> None:
    authorizer = Grants()
    nexus = make(Gives(authorizer))
    nexus.register("open", lambda: 1)
    async with nexus:
        assert (await nexus.invoke("open")).value == 1
    assert authorizer.asked == []


async def test_all_authorizers_must_grant_all_permissions(make: Any) -> None:
    one, other = Grants("a", "b", "c"), Grants("a", "c")
    nexus = make(Gives(one, other))
    nexus.register("both", lambda: 1, {"required_permissions": ["b", "d", "a"]})
    nexus.register("granted", lambda: 2, {"required_permissions": ["a", "c"]})
    async with nexus:
        with pytest.raises(PermissionDenied, match='"both" needs the permission b, d') as refused:
            await nexus.invoke("both")
        assert refused.value.details == {"missing_permissions": ["b", "d"]}
        assert (await nexus.invoke("granted")).value == 2
    assert one.asked == [frozenset("abd"), frozenset("ac")]
