"""``/api/events`` and ``events`` on a WebSocket: everything that happens to one caller's runs, over real sockets."""

from __future__ import annotations

import asyncio
import json

import callers
import httpx2
import pytest
from websockets.asyncio.client import connect


class Stream:
    """The events of a stream, as they come."""

    def __init__(self, answer):
        self._lines = answer.aiter_lines()

    async def next(self):
        frame = {}
        async with asyncio.timeout(10):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name:
                    frame[name] = value
                elif line == "" and "data" in frame:
                    return frame
                elif line == "" or line.startswith(":"):
                    frame.clear()
        raise AssertionError("it has ended")

    async def following(self):
        async with asyncio.timeout(10):
            async for line in self._lines:
                if line == ": following":
                    return self
        raise AssertionError("it has ended")


async def run(client, name="add", **headers):
    answer = await client.post(
        f"/api/workflows/{name}/execute", json={"a": 1} if name == "add" else {}, headers=headers
    )
    return answer.json()["run_id"]


async def test_events_of_all_runs(client):
    async with client.stream("GET", "/api/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = await Stream(answer).following()
        run_id = await run(client)
        frames = [await stream.next() for _ in range(2)]
    assert [frame["event"] for frame in frames] == ["workflow.started", "workflow.completed"]
    events = [json.loads(frame["data"]) for frame in frames]
    assert {event["run_id"] for event in events} == {run_id}
    assert "result" not in events[1]
    later = await run(client)
    async with client.stream("GET", "/api/events", headers={"last-event-id": frames[0]["id"]}) as answer:
        stream = Stream(answer)
        again = [await stream.next() for _ in range(3)]
    assert again[0] == frames[1]
    assert {json.loads(frame["data"])["run_id"] for frame in again[1:]} == {later}


async def test_who_has_missed_something_is_told(client):
    await run(client)
    async with client.stream("GET", "/api/events", params={"after": "5a-1"}) as answer:
        frame = await Stream(answer).next()
    assert frame["event"] == "events.missed"
    assert "id" not in frame


@pytest.mark.parametrize("after", ["x", "1", "a-b"])
async def test_wrong_ids_are_refused(client, after):
    for request in ({"params": {"after": after}}, {"headers": {"last-event-id": after}}):
        answer = await client.get("/api/events", **request)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


async def test_silence_is_told_and_who_leaves_is_forgotten(make_nexus, serve, eventually):
    nexus = make_nexus(event_heartbeat=0.05)
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        async with client.stream("GET", "/api/events") as answer:
            lines = answer.aiter_lines()
            seen = [await anext(lines) for _ in range(6)]
            assert ": nothing new" in seen
            assert nexus.event_log.followed_by == 1
        await eventually(lambda: not nexus.event_log.followed_by)
        assert (await client.head("/api/events")).status_code == 200
        assert not nexus.event_log.followed_by


async def test_followers_hear_of_their_own_runs_only(make_nexus, serve):
    nexus = make_nexus(callers.Callers())
    callers.register(nexus)
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        assert (await client.get("/api/events")).status_code == 401
        headers = {"authorization": "Bearer alice"}
        async with client.stream("GET", "/api/events", headers=headers) as answer:
            stream = await Stream(answer).following()
            await run(client, "open_to_all", authorization="Bearer bob")
            mine = await run(client, "open_to_all", **headers)
            assert json.loads((await stream.next())["data"])["run_id"] == mine


async def test_events_on_a_websocket(client):
    url = str(client.base_url).replace("http", "ws") + "/api/ws"
    async with connect(url) as socket:

        async def ask(**message):
            await socket.send(json.dumps(message))

        async def heard(kind):
            while (message := json.loads(await socket.recv()))["type"] != kind:
                pass
            return message

        await ask(type="events", id="all")
        following = await heard("following")
        begin = following.pop("after")
        assert begin.startswith(f"{client.nexus.event_log.epoch}-")
        assert following == {"type": "following", "id": "all"}
        await ask(type="execute", id="call", workflow="add", params={"a": 1})
        result = await heard("result")
        await ask(type="cancel", id="all")
        assert (await heard("error"))["id"] == "all"
        await ask(type="events", id="again", after=begin)
        events = [(await heard("event"))["event"] for _ in range(2)]
        assert [event["type"] for event in events] == ["workflow.started", "workflow.completed"]
        assert {event["run_id"] for event in events} == {result["run_id"]}
        assert all(event["id"].startswith(client.nexus.event_log.epoch) for event in events)
        for wrong in ({"after": 1}, {"session": 1}, {"after": "x"}):
            await ask(type="events", id="wrong", **wrong)
            assert (await heard("error"))["error"]["code"] == "malformed_request"
