"""What an event handler returns for an error is its caller's answer, over REST, streams and WebSockets."""

from __future__ import annotations

import json

import httpx2
import pytest
from websockets.asyncio.client import connect

from nexus_core import WorkflowError
from nexus_core.events.handlers import EventHandler


class Rewording(EventHandler):
    def handle_error(self, event):
        if event.channel == "api":
            return {"error": True, "message": str(event.error), "code": event.error.code}
        return None


INSTEAD = {"error": True, "message": "no", "code": "workflow_error"}


@pytest.fixture
async def client(make_nexus, serve):
    nexus = make_nexus()
    nexus.register_event_handler(Rewording())

    @nexus.workflow
    async def fail() -> None:
        raise WorkflowError("no")

    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        yield client


@pytest.mark.parametrize(
    "headers", [{}, {"prefer": "wait=5"}, {"idempotency-key": "1"}], ids=["plain", "waiting", "with a key"]
)
async def test_calls(client, headers):
    answer = await client.post("/api/workflows/fail/execute", headers=headers)
    assert (answer.status_code, answer.json()) == (500, INSTEAD)
    assert answer.headers["content-type"] == "application/json"


async def test_refusals_keep_status_and_headers(client):
    answer = await client.post("/api/workflows/nothing/execute")
    assert answer.status_code == 404
    assert answer.json()["code"] == "workflow_not_found"
    assert answer.json()["error"] is True
    answer = await client.post("/api/workflows/nothing/execute", headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer.json()["error"]) == (404, True)


async def test_what_is_no_call_is_as_ever(client):
    answer = await client.get("/api/runs/unknown")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_websockets(client):
    url = str(client.base_url).replace("http", "ws") + "/api/ws"
    async with connect(url) as socket:
        await socket.send(json.dumps({"type": "execute", "id": 1, "workflow": "fail"}))
        message = {}
        while message.get("type") != "error":
            message = json.loads(await socket.recv())
        assert message == {"type": "error", "id": 1, "error": INSTEAD}
