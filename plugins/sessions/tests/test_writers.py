"""Fifty writers at a time, over two platforms on one store: nothing is lost."""

from __future__ import annotations

import asyncio

import pytest
from guide_manager import AsyncSessionManager, EnterpriseSessionManager

from nexus_core import Conflict


@pytest.mark.parametrize("manager", [None, EnterpriseSessionManager, AsyncSessionManager])
async def test_nothing_is_lost(start_shared, view, call, manager):
    options = {"session_manager_timeout": 30, "workflow_timeout": 60}  # a busy machine gets its time
    platforms = [await start_shared(manager=manager and manager(), **options) for _ in range(2)]
    views = [await view(nexus, "ann") for nexus in platforms]
    session = await views[0].create_session("api")

    async def write(number):
        key, channel = f"key {number}", ("api", "cli", "mcp")[number % 3]
        while True:
            try:
                if number % 2:
                    await call(platforms[number % 4 // 2], session, channel, "ann", key=key, value=number)
                else:
                    await views[number % 4 // 2].update_session(session.id, {key: number})
            except Conflict as conflict:  # too many at a time: it says so, and when to try again
                await asyncio.sleep(conflict.retry_after)
            else:
                return

    await asyncio.gather(*(write(number) for number in range(50)))
    for each in views:
        kept = await each.session(session.id)
        assert kept.state == {f"key {number}": number for number in range(50)}
        assert kept.version == session.version + 50
        assert kept.active_channels == {"api", "cli", "mcp"}
    told = sum(event.type == "session.updated" for nexus in platforms for event in nexus.told)
    assert told == 50
