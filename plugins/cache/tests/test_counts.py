"""What the cache tells of itself."""

from __future__ import annotations

import asyncio


def counted(nexus):
    (found,) = [each for each in nexus.measurements() if each.name == "nexus_cache_requests_total"]
    return {labels[0]: number for labels, number in found.read()}


async def test_calls_are_counted_by_how_they_were_answered(start):
    nexus = await start()
    begun, go_on = asyncio.Event(), asyncio.Event()

    @nexus.workflow
    async def slow() -> int:
        begun.set()
        await go_on.wait()
        return 1

    nexus.register("own", lambda: 1, {"cache": False})
    first = asyncio.create_task(nexus.invoke("slow"))
    await begun.wait()
    second = asyncio.create_task(nexus.invoke("slow"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, second)
    await nexus.invoke("slow")
    await nexus.invoke("own")
    assert counted(nexus) == {"hit": 1, "join": 1, "miss": 1}


async def test_off_there_is_nothing_to_tell(make):
    async with make(enable_caching=False) as nexus:
        assert not [each for each in nexus.measurements() if "cache" in each.name]
