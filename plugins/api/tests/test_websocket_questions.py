"""Questions over `/api/ws`."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import asking
import pytest
from websockets.asyncio.client import connect


class Caller:
    """Sends messages, and sorts what comes back by id."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, **message):
        await self.socket.send(json.dumps(message))

    async def receive(self):
        return json.loads(await asyncio.wait_for(self.socket.recv(), 10))

    async def end_of(self, id):
        """Return the message that ends a request; those before it stay unread by others."""
        while (message := await self.receive())["type"] == "event" or message["id"] != id:
            pass
        return message

    async def question_of(self, id):
        """Return the event with which a call asks, with the run's id."""
        while True:
            message = await self.receive()
            if message["id"] == id and message["event"]["type"] == "workflow.question":
                return message["event"]


@pytest.fixture
def callers(make_nexus, serve):
    """A function that serves a platform and returns what opens connections of its callers."""

    async def start(*plugins, **options):
        nexus = make_nexus(*plugins, **options)
        asking.register(nexus)
        url = (await serve(nexus)).replace("http", "ws") + "/api/ws"

        @asynccontextmanager
        async def connected(name=None):
            headers = {} if name is None else {"authorization": f"Bearer {name}"}
            async with connect(url, additional_headers=headers) as socket:
                yield Caller(socket)

        return connected

    return start


async def test_a_call_asks_and_is_answered_over_its_connection(callers):
    async with (await callers(insecure=True))() as ws:
        await ws.send(type="execute", id=1, workflow="ship", params={"count": 3})
        event = await ws.question_of(1)
        assert event["data"] == {"number": 1, "question": "Ship 3?", "schema": {"type": "boolean"}, "to": "caller"}
        await ws.send(type="questions", id="q")
        listed = await ws.end_of("q")
        assert listed["type"] == "result"
        assert [each["run_id"] for each in listed["result"]["questions"]] == [event["run_id"]]
        await ws.send(type="answer", id="a", run_id=event["run_id"], number=1, answer=True)
        messages = [await ws.receive() for _ in range(3)]
        by_id = {message["id"]: message for message in messages if message["type"] == "result"}
        assert by_id["a"]["result"]["status"] == "answered"
        assert by_id[1]["result"] == "shipped 3"
        told = [message["event"] for message in messages if message["type"] == "event"]
        assert [(each["type"], each["data"]["status"]) for each in told] == [("workflow.answered", "answered")]
        await ws.send(type="answer", id="a", run_id=event["run_id"], number=1, answer=True)
        assert (await ws.end_of("a"))["error"]["code"] == "question_closed"


async def test_followers_of_a_run_and_of_all_events(callers):
    connected = await callers(insecure=True)
    async with connected() as ws, connected() as other:
        await other.send(type="events", id="all")
        assert (await other.receive())["type"] == "following"
        await ws.send(type="execute", id=1, workflow="ship", params={"count": 1})
        event = await ws.question_of(1)
        await other.send(type="follow", id="one", run_id=event["run_id"])
        await other.send(type="answer", id="a", run_id=event["run_id"], number=1, answer=False)
        seen = {"all": [], "one": []}
        while (message := await other.receive())["type"] != "result" or message["id"] != "one":
            if message["type"] == "event":
                seen[message["id"]].append(message["event"]["type"])
        assert message["result"] == "kept"
        while "workflow.completed" not in seen["all"]:
            message = await other.receive()
            if message["type"] == "event":
                seen["all"].append(message["event"]["type"])
        for types in seen.values():
            assert [each for each in types if each in ("workflow.question", "workflow.answered")] == [
                "workflow.question", "workflow.answered",
            ]  # fmt: skip


async def test_who_may_answer(callers):
    connected = await callers(asking.Users())
    async with connected("ann") as ann, connected("bob") as bob, connected("eve") as eve:
        await ann.send(type="execute", id=1, workflow="delegate", params={"to": "user:bob"})
        event = await ann.question_of(1)
        answer = {"type": "answer", "id": "a", "run_id": event["run_id"], "number": 1, "answer": True}
        for caller, code in ((ann, "permission_denied"), (eve, "question_not_found")):
            await caller.send(**answer)
            assert (await caller.end_of("a"))["error"]["code"] == code
            await caller.send(type="questions", id="q")
            assert (await caller.end_of("q"))["result"]["questions"] == []
        await bob.send(type="questions", id="q", limit=5)
        assert len((await bob.end_of("q"))["result"]["questions"]) == 1
        await bob.send(**answer)
        assert (await bob.end_of("a"))["result"]["answered_by"] == "bob"
        assert (await ann.end_of(1))["result"] == "yes"


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ({"type": "answer", "number": 1, "answer": True}, "/run_id: expected string"),
        ({"type": "answer", "run_id": "x", "number": "1", "answer": True}, "/number: expected integer"),
        ({"type": "answer", "run_id": "x", "number": True, "answer": True}, "/number: expected integer"),
        ({"type": "answer", "run_id": "x", "number": 1}, "/answer: missing"),
        ({"type": "answer", "run_id": "x", "number": 1, "answer": 1, "by": "me"}, "/by: unknown name"),
        ({"type": "answer", "run_id": "x", "number": 1, "answer": True}, "There is no question 1"),
        ({"type": "answer", "run_id": "\0", "number": 10**30, "answer": True}, "There is no question"),
        ({"type": "questions", "limit": 0}, "limit must be from 1"),
        ({"type": "questions", "after": 1}, "after must be a string"),
        ({"type": "questions", "workflow": "x"}, "/workflow: unknown name"),
    ],
)
async def test_messages_that_are_refused(callers, message, detail):
    async with (await callers(insecure=True))() as ws:
        for _ in range(2):  # the id is free again
            await ws.send(id=7, **message)
            reply = await ws.receive()
            assert (reply["type"], reply["id"]) == ("error", 7)
            assert detail in reply["error"]["detail"]
