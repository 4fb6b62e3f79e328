"""A caller who leaves: its run is cancelled, unless it asked to wait."""

from __future__ import annotations

import asyncio

import httpx2
import pytest


async def test_leaving_cancels_an_async_workflow(client, raw, seen, post, idle):
    connection = raw(client.base_url)
    await connection.send(post("sleeps"))
    await seen.started.wait()
    connection.close()
    await idle(client.nexus)
    assert seen.cancelled.is_set()
    assert client.nexus.runs.find(workflow="sleeps")[0].status == "cancelled"


async def test_leaving_tells_a_sync_workflow(client, raw, seen, post, idle, eventually):
    connection = raw(client.base_url)
    await connection.send(post("sync_sleeps"))
    await eventually(client.nexus.runs.running)
    connection.reset()
    await idle(client.nexus)
    assert seen.cancelled.is_set()


async def test_leaving_an_event_stream_cancels_its_run(client, seen, idle):
    headers = {"accept": "text/event-stream"}
    async with client.stream("POST", "/api/workflows/sleeps/execute", headers=headers) as answer:
        assert answer.status_code == 200
        await seen.started.wait()
    await idle(client.nexus)
    assert seen.cancelled.is_set()


@pytest.mark.parametrize("how", ["prefer", "query"])
async def test_a_run_that_was_waited_for_goes_on(client, raw, seen, post, eventually, how):
    request = post("sleeps", {"seconds": 0.3}, *(["Prefer: wait=30"] if how == "prefer" else []))
    if how == "query":
        request = request.replace(b"/execute", b"/execute?wait=30", 1)
    connection = raw(client.base_url)
    await connection.send(request)
    await seen.started.wait()
    connection.close()
    (run,) = client.nexus.runs.find(workflow="sleeps")
    await eventually(lambda: run.done)
    assert (run.status, seen.finished) == ("completed", 1)


async def test_following_does_not_own_the_run(client, seen, eventually):
    run_id = (await client.post("/api/workflows/sleeps/execute?wait=0", json={"seconds": 0.4})).json()["run_id"]
    async with client.stream("GET", f"/api/runs/{run_id}/events") as answer:
        assert answer.status_code == 200
    await eventually(lambda: seen.finished)
    assert not seen.cancelled.is_set()


async def test_waiting_for_a_run_ends_when_the_caller_leaves(client, raw, eventually):
    run_id = (await client.post("/api/workflows/sleeps/execute?wait=0")).json()["run_id"]
    run = client.nexus.runs.get(run_id)
    connection = raw(client.base_url)
    await connection.send(f"GET /api/runs/{run_id}?wait=600 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await eventually(lambda: run.followers)
    connection.close()
    await eventually(lambda: not run.followers)
    assert run.status == "running"
    run.cancel()


async def test_overload_is_refused_at_once_and_leaves_nothing(make_nexus, serve, idle, seen):
    nexus = make_nexus(max_concurrent_workflows=5)
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        calls = [client.post("/api/workflows/sleeps/execute", json={"seconds": 3}) for _ in range(20)]
        answers = await asyncio.gather(*calls)
        refused = [answer for answer in answers if answer.status_code == 503]
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [503] * 15
        for answer in refused:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["code"] == "overloaded"
            assert answer.elapsed.total_seconds() < 2.5
        await idle(nexus)
        again = await asyncio.gather(*(client.post("/api/workflows/add/execute", json={"a": 1}) for _ in range(5)))
        assert [answer.status_code for answer in again] == [200] * 5


async def test_many_who_leave_at_once_leave_nothing(client, raw, post, idle, eventually):
    connections = [raw(client.base_url) for _ in range(60)]
    for connection in connections:
        await connection.send(post("sleeps"))
    await eventually(lambda: len(client.nexus.runs.running()) == 60)
    for index, connection in enumerate(connections):
        connection.reset() if index % 2 else connection.close()
    await idle(client.nexus)
