"""`/api/ws`: many calls over one connection."""

from __future__ import annotations

import asyncio
import json

import pytest
import websockets


class Caller:
    """Speaks the protocol and sorts what comes back by id."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, **message):
        await self.socket.send(json.dumps(message))

    async def execute(self, id, workflow, **params):
        await self.send(type="execute", id=id, workflow=workflow, params=params)

    async def receive(self):
        return json.loads(await asyncio.wait_for(self.socket.recv(), 10))

    async def until_end(self, id):
        """Return every message up to the one that ends the call."""
        messages = []
        while not messages or messages[-1]["type"] == "event" or messages[-1]["id"] != id:
            messages.append(await self.receive())
        return messages


def address(client):
    return str(client.base_url).replace("http", "ws", 1).rstrip("/") + "/api/ws"


@pytest.fixture
async def ws(client):
    async with websockets.connect(address(client), max_size=None) as socket:
        yield Caller(socket)


async def test_one_call(ws):
    await ws.execute(1, "add", a=1, b=2)
    messages = await ws.until_end(1)
    assert messages[-1]["type"] == "result"
    assert messages[-1]["result"] == 3
    assert messages[-1]["run_id"]


async def test_a_result_of_null_is_there(ws):
    await ws.execute("x", "echo")
    assert (await ws.until_end("x"))[-1]["result"] is None


async def test_many_calls_at_once(ws):
    for number in range(80):
        await ws.execute(number, "add", a=number, b=1000)
    results = {}
    while len(results) < 80:
        message = await ws.receive()
        if message["type"] == "result":
            results[message["id"]] = message["result"]
    assert results == {number: number + 1000 for number in range(80)}


async def test_progress_comes_in_order(ws):
    await ws.execute("p", "steps", n=20)
    messages = await ws.until_end("p")
    progress = [m["event"]["data"]["done"] for m in messages[:-1] if m["event"]["type"] == "workflow.progress"]
    assert progress == list(range(1, 21))


async def test_output_streams(ws):
    await ws.execute("s", "count", n=5)
    messages = await ws.until_end("s")
    output = [m["event"]["data"]["value"] for m in messages[:-1] if m["event"]["type"] == "workflow.output"]
    assert output == messages[-1]["result"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "params", "code"),
    [
        ("nothing", {}, "workflow_not_found"),
        ("add", {"a": "x"}, "validation_error"),
        ("boom", {}, "workflow_failed"),
        ("refuses", {}, "workflow_error"),
        ("hangs", {}, "workflow_timeout"),
        ("exits", {}, "workflow_failed"),
        ("not_json", {}, "workflow_failed"),
    ],
)
async def test_errors_are_problems(ws, name, params, code):
    await ws.execute(7, name, **params)
    message = (await ws.until_end(7))[-1]
    assert (message["type"], message["error"]["code"]) == ("error", code)
    assert "secret" not in json.dumps(message)
    await ws.execute(8, "add", a=1)
    assert (await ws.until_end(8))[-1]["result"] == 1


async def test_cancel(ws, client, seen, idle):
    await ws.execute("c", "sleeps")
    await seen.started.wait()
    await ws.send(type="cancel", id="c")
    assert (await ws.until_end("c"))[-1]["error"]["code"] == "run_cancelled"
    assert seen.cancelled.is_set()
    await idle(client.nexus, connections=1)


async def test_cancel_right_after_execute(ws, client, idle):
    for number in range(20):
        await ws.execute(number, "sleeps")
        await ws.send(type="cancel", id=number)
    ended = set()
    while len(ended) < 20:
        message = await ws.receive()
        if message["type"] == "error":
            assert message["error"]["code"] == "run_cancelled"
            ended.add(message["id"])
    await idle(client.nexus, connections=1)


async def test_an_id_is_free_again_with_its_answer(ws):
    for number in range(50):
        await ws.execute("same", "add", a=number)
        assert (await ws.until_end("same"))[-1]["result"] == number


async def test_an_id_in_use_is_refused_and_its_call_goes_on(ws):
    await ws.execute("d", "sleeps", seconds=0.2)
    await ws.execute("d", "add", a=1)
    messages = [await ws.receive() for _ in range(2)]
    refusal = next(m for m in messages if m["type"] == "error")
    assert refusal["error"]["code"] == "malformed_request"
    assert "is active" in refusal["error"]["detail"]
    assert (await ws.until_end("d"))[-1]["result"] == "slept"


async def test_follow(ws, client):
    run_id = (await client.post("/api/workflows/count/execute?wait=0", json={"n": 4, "pause": 0.05})).json()["run_id"]
    await ws.send(type="follow", id="f", run_id=run_id)
    messages = await ws.until_end("f")
    output = [m["event"] for m in messages[:-1] if m["event"]["type"] == "workflow.output"]
    assert [event["data"]["value"] for event in output] == [0, 1, 2, 3]
    assert messages[-1]["result"] == [0, 1, 2, 3]
    await ws.send(type="follow", id="g", run_id=run_id, after=output[1]["number"])
    later = await ws.until_end("g")
    assert [m["event"]["data"]["value"] for m in later[:-1]] == [2, 3]


async def test_a_follow_can_be_cancelled_and_its_run_goes_on(ws, client, seen, eventually):
    run_id = (await client.post("/api/workflows/sleeps/execute?wait=0", json={"seconds": 0.5})).json()["run_id"]
    await ws.send(type="follow", id="f", run_id=run_id)
    await ws.receive()
    await ws.send(type="cancel", id="f")
    assert (await ws.until_end("f"))[-1]["type"] == "error"
    await eventually(lambda: seen.finished)


BAD_MESSAGES = {
    "not json": "hello",
    "empty": "",
    "array": "[]",
    "NaN": '{"type": "execute", "id": 1, "workflow": "echo", "params": {"value": NaN}}',
    "duplicate": '{"type": "execute", "id": 1, "id": 2, "workflow": "echo"}',
    "deep": '{"type": "execute", "id": 1, "params": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "no type": '{"id": 1}',
    "unknown type": '{"type": "destroy", "id": 1}',
    "type of a wrong type": '{"type": ["execute"], "id": 1}',
    "no id": '{"type": "execute", "workflow": "add"}',
    "id true": '{"type": "execute", "id": true, "workflow": "add"}',
    "id object": '{"type": "execute", "id": {}, "workflow": "add"}',
    "id long": '{"type": "execute", "id": "%s", "workflow": "add"}' % ("x" * 201),
    "no workflow": '{"type": "execute", "id": 1}',
    "workflow number": '{"type": "execute", "id": 1, "workflow": 5}',
    "params array": '{"type": "execute", "id": 1, "workflow": "add", "params": []}',
    "timeout": '{"type": "execute", "id": 1, "workflow": "add", "timeout": -1}',
    "timeout string": '{"type": "execute", "id": 1, "workflow": "add", "timeout": "1"}',
    "session number": '{"type": "execute", "id": 1, "workflow": "add", "session": 5}',
    "session long": '{"type": "execute", "id": 1, "workflow": "add", "session": "%s"}' % ("x" * 256),
    "key object": '{"type": "execute", "id": 1, "workflow": "add", "idempotency_key": {}}',
    "unknown member": '{"type": "execute", "id": 1, "workflow": "add", "parms": {}}',
    "cancel of nothing": '{"type": "cancel", "id": 99}',
    "follow nobody": '{"type": "follow", "id": 1, "run_id": "nobody"}',
    "follow number": '{"type": "follow", "id": 1, "run_id": 5}',
    "follow after text": '{"type": "follow", "id": 1, "run_id": "x", "after": "1"}',
    "binary rubbish": b"\x00\xff\xfe",
    "lone surrogate": '{"type": "execute", "id": "\\ud800", "workflow": "add"}',
}


@pytest.mark.parametrize("kind", BAD_MESSAGES)
async def test_bad_messages_cost_only_themselves(ws, kind):
    await ws.socket.send(BAD_MESSAGES[kind])
    message = await ws.receive()
    assert message["type"] == "error"
    assert message["error"]["code"] in ("malformed_request", "run_not_found", "validation_error")
    assert "body" not in message["error"]["detail"]
    assert len(json.dumps(message)) < 1500
    await ws.execute("after", "add", a=1)
    assert (await ws.until_end("after"))[-1]["result"] == 1


async def test_binary_messages_are_read_as_json(ws):
    await ws.socket.send(b'{"type": "execute", "id": 1, "workflow": "add", "params": {"a": 4}}')
    assert (await ws.until_end(1))[-1]["result"] == 4


async def test_each_call_has_its_own_session_and_key(ws, client):
    sessions = [(await client.post("/api/sessions")).json()["session_id"] for _ in range(2)]
    for number, session in enumerate(sessions * 2):
        await ws.send(type="execute", id=number, workflow="visit", session=session, idempotency_key=str(number // 2))
        last = (await ws.until_end(number))[-1]
        assert (last["result"], last.get("replayed")) == ((1, None), (1, True), (2, None), (2, True))[number]
    await ws.send(type="execute", id="x", workflow="visit", session="unknown")
    assert (await ws.until_end("x"))[-1]["error"]["code"] == "session_not_found"


async def test_a_timeout_of_the_callers_own(ws):
    await ws.send(type="execute", id=1, workflow="sleeps", params={}, timeout=0.1)
    assert (await ws.until_end(1))[-1]["error"]["code"] == "workflow_timeout"


async def test_messages_that_are_too_large_close_the_connection(make_nexus, serve, client):
    url = await serve(make_nexus(websocket_max_message_bytes=1000))
    async with websockets.connect(url.replace("http", "ws") + "/api/ws") as socket:
        await socket.send("x" * 2000)
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 5)
        assert caught.value.rcvd.code == 1009


async def test_calls_over_the_limit_are_refused(make_nexus, serve):
    url = await serve(make_nexus(websocket_calls=3))
    async with websockets.connect(url.replace("http", "ws") + "/api/ws") as socket:
        ws = Caller(socket)
        for number in range(4):
            await ws.execute(number, "sleeps", seconds=0.3)
        assert (await ws.until_end(3))[-1]["error"]["code"] == "overloaded"
        assert (await ws.until_end(2))[-1]["result"] == "slept"
