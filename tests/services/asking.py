"""Workflows that ask, and callers of several kinds. Tests import it as ``asking``."""

from __future__ import annotations

import callers

from nexus_core import Context, Principal

USERS = {
    name: Principal(name, frozenset(permissions))
    for name, permissions in {
        "ann": (), "bob": (), "eve": (), "pat": ("ship.approve",), "olga": ("nexus.operate",),
    }.items()
}  # fmt: skip


class Users(callers.Callers):
    """Knows callers by their names: ``ann`` calls; ``pat`` may approve shipments; ``olga`` is an operator."""

    async def __call__(self, invocation, call_next):
        name = ((invocation.credentials or {}).get("authorization") or "").removeprefix("Bearer ")
        if name in USERS:
            invocation.principal = USERS[name]
        return await super().__call__(invocation, call_next)


def register(nexus, questions=None):
    """Register workflows that ask. ``questions`` gets what a workflow with a link asks."""

    @nexus.workflow
    async def ship(count: int, context: Context) -> str:
        is_fine = await context.ask(f"Ship {count}?", bool, details={"count": count})
        return f"shipped {count}" if is_fine else "kept"

    @nexus.workflow
    async def delegate(to: str, context: Context) -> str:
        return "yes" if await context.ask("Ship it?", bool, to=to) else "no"

    @nexus.workflow
    def how_many(context: Context) -> int:
        return context.ask_sync("How many?", int)

    @nexus.workflow
    async def twice(context: Context) -> list:
        return [await context.ask("First?", str), await context.ask("Second?", str)]

    async def helper(context):
        return await context.ask("Helped?", bool)

    @nexus.workflow
    async def helped(context: Context) -> bool:
        return await helper(context)

    @nexus.workflow(approval="permission:ship.approve")
    async def wipe(name: str) -> str:
        return f"wiped {name}"

    @nexus.workflow(approval="caller")
    async def confirmed(value: int = 1) -> int:
        return value

    @nexus.workflow
    async def never_asks(context: Context) -> int:
        return 1
