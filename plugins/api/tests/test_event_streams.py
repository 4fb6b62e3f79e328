"""Server-sent events: of a call, and of a run."""

from __future__ import annotations

import asyncio
import json
import zlib

import httpx2
import pytest

EXECUTE = "/api/workflows/{}/execute"
SSE = {"accept": "text/event-stream"}


def parse(text):
    """The events of a stream as (id, type, data), and its comments."""
    events, comments = [], 0
    for block in text.split("\n\n"):
        assert "\r" not in block
        fields = dict(line.partition(": ")[::2] for line in block.split("\n") if line and line[0] != ":")
        comments += block.count("\n:") + block.startswith(":")
        if fields:
            assert fields.keys() == {"id", "event", "data"}
            events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events, comments


async def finished(client, name="count", **params):
    answer = await client.post(EXECUTE.format(name) + "?wait=10", json=params)
    return answer.json()["run_id"]


async def test_a_call_as_events(client):
    answer = await client.post(EXECUTE.format("count"), json={"n": 3}, headers=SSE)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    events, _ = parse(answer.text)
    assert [kind for _, kind, _ in events] == ["workflow.started", *["workflow.output"] * 3, "workflow.completed"]
    assert [data["data"]["value"] for _, kind, data in events if kind == "workflow.output"] == [0, 1, 2]
    assert events[-1][2]["result"] == [0, 1, 2]
    numbers = [number for number, _, _ in events]
    assert numbers == sorted(set(numbers))


async def test_events_come_when_they_happen(client):
    async with client.stream("POST", EXECUTE.format("sleeps"), json={"seconds": 30}, headers=SSE) as answer:
        first = await asyncio.wait_for(anext(answer.aiter_text()), 3)
        assert "workflow.started" in first


@pytest.mark.parametrize(
    ("name", "params", "status"), [("nothing", {}, 404), ("add", {"a": "x"}, 422), ("add", {"a": 1, "c": 2}, 422)]
)
async def test_what_is_refused_is_a_problem_and_no_stream(client, name, params, status):
    answer = await client.post(EXECUTE.format(name), json=params, headers=SSE)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_overload_is_a_problem_and_no_stream(make_nexus, serve, seen):
    async with httpx2.AsyncClient(base_url=await serve(make_nexus(max_concurrent_workflows=1))) as client:
        await client.post(EXECUTE.format("sleeps") + "?wait=0")
        answer = await client.post(EXECUTE.format("add"), json={"a": 1}, headers=SSE)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_failure_is_the_last_event(client):
    answer = await client.post(EXECUTE.format("boom"), headers=SSE)
    events, _ = parse(answer.text)
    assert events[-1][1] == "workflow.failed"
    assert events[-1][2]["error"]["code"] == "workflow_failed"
    assert "secret" not in answer.text


async def test_an_event_name_of_the_workflows_own_breaks_no_frame(client):
    @client.nexus.workflow
    async def evil(context: __import__("nexus_core").Context) -> str:
        context.emit("x\n\nevent: forged", {"text": "\r\n\r\ndata: forged\u2028"})
        context.progress(1, None, "a\n\nid: 999")
        return "b\n\nevent: forged"

    answer = await client.post(EXECUTE.format("evil"), headers=SSE)
    events, _ = parse(answer.text)
    assert [kind for _, kind, _ in events] == [
        "workflow.started", "workflow.event", "workflow.progress", "workflow.completed",
    ]  # fmt: skip


async def test_resume_after_the_last_event_seen(client):
    run_id = await finished(client, n=4)
    every, _ = parse((await client.get(f"/api/runs/{run_id}/events")).text)
    seen_until = every[2][0]
    for request in ({"headers": {"last-event-id": str(seen_until)}}, {"params": {"after": seen_until}}):
        rest, _ = parse((await client.get(f"/api/runs/{run_id}/events", **request)).text)
        assert rest == every[3:]


async def test_every_event_comes_once_across_interruptions(client):
    handle = await client.post(EXECUTE.format("count") + "?wait=0", json={"n": 12, "pause": 0.02})
    run_id, last, values = handle.json()["run_id"], 0, []
    while True:
        async with client.stream("GET", f"/api/runs/{run_id}/events", headers={"last-event-id": str(last)}) as answer:
            text = ""
            async for piece in answer.aiter_text():
                text += piece
                if text.count("\n\n") >= 2:
                    break
        complete = text[: text.rindex("\n\n") + 2]
        for last, kind, data in parse(complete)[0]:  # noqa: B007  (the next request says it)
            if kind == "workflow.output":
                values.append(data["data"]["value"])
            if kind == "workflow.completed":
                assert values == list(range(12))
                return


async def attached(client, seen):
    """A call whose caller waits for its result, which it streams all at once, and its run."""
    going_on = asyncio.Event()

    @client.nexus.workflow
    async def burst():
        seen.started.set()
        await going_on.wait()
        for number in range(5):
            yield number

    call = asyncio.create_task(client.post(EXECUTE.format("burst")))
    await seen.started.wait()
    (run,) = client.nexus.runs.running()
    return call, run, going_on


async def test_who_is_slow_to_take_the_events_of_such_a_run_misses_nothing(client, seen):
    """The server's `send` returns when the other side takes something: here, after the run has ended."""
    call, run, going_on = await attached(client, seen)
    pieces, ended = [], asyncio.Event()

    async def send(message):
        pieces.append(message.get("body", b""))
        if b"workflow.started" in pieces[-1]:
            going_on.set()
            await ended.wait()

    scope = {"type": "http", "method": "GET", "path": f"/api/runs/{run.id}/events", "query_string": b"", "headers": []}
    following = asyncio.create_task(client.nexus.channel("api").asgi_app()(scope, asyncio.Event().wait, send))
    assert (await call).json()["result"] == [0, 1, 2, 3, 4]
    assert run.done
    ended.set()
    await asyncio.wait_for(following, 5)
    events, _ = parse(b"".join(pieces).decode())
    assert [kind for _, kind, _ in events] == ["workflow.started", *["workflow.output"] * 5, "workflow.completed"]
    assert run.followers == 0


async def test_who_comes_late_hears_how_such_a_run_began_and_ended(client, seen):
    call, run, going_on = await attached(client, seen)
    going_on.set()
    await call
    answer = await client.get(f"/api/runs/{run.id}/events", timeout=3)
    events, _ = parse(answer.text)
    assert [kind for _, kind, _ in events] == ["workflow.started", "workflow.completed"]
    assert "result" not in events[-1][2], "its caller has it"
    again = await client.get(f"/api/runs/{run.id}/events", headers={"last-event-id": str(events[0][0])}, timeout=3)
    assert parse(again.text)[0] == events[1:]


async def test_numbers_of_the_future(client):
    run_id = await finished(client, n=1)
    answer = await client.get(f"/api/runs/{run_id}/events", headers={"last-event-id": "999999999"})
    assert (answer.status_code, answer.text) == (200, "")


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "1e3", "9" * 19, "\u00b2", "1 2", "0x10"])
async def test_numbers_that_are_none(client, given):
    run_id = await finished(client, n=1)
    answer = await client.get(f"/api/runs/{run_id}/events", headers={"last-event-id": given.encode("latin-1")})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_head_does_not_wait(client):
    handle = await client.post(EXECUTE.format("sleeps") + "?wait=0")
    answer = await client.head(f"/api/runs/{handle.json()['run_id']}/events", timeout=3)
    assert answer.status_code in (200, 405)


async def test_heartbeats(make_nexus, serve):
    async with httpx2.AsyncClient(base_url=await serve(make_nexus(event_heartbeat=0.05))) as client:
        answer = await client.post(EXECUTE.format("sleeps"), json={"seconds": 0.4}, headers=SSE)
        events, comments = parse(answer.text)
        assert comments >= 3
        assert events[-1][1] == "workflow.completed"


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "identity", "gzip;q=0, *;q=0"])
async def test_events_are_not_held_back_by_compression(client, coding):
    headers = SSE | {"accept-encoding": coding}
    async with client.stream("POST", EXECUTE.format("sleeps"), json={"seconds": 30}, headers=headers) as answer:
        piece = await asyncio.wait_for(anext(answer.aiter_raw()), 3)
        used = answer.headers.get("content-encoding")
        assert used in (coding, None)
        if used == "gzip":
            piece = zlib.decompressobj(31).decompress(piece)
        if used in ("gzip", None):
            assert b"workflow.started" in piece
