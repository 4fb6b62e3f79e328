"""What callers see who are asked who they are: their own runs, and the workflows they may run."""

from __future__ import annotations

import json

import callers
import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nexus_core import Invocation, RateLimited, Stage, hookimpl
from nexus_core.types.principal import RateLimit

ADDRESSES = ["/api/workflows", "/api/workflows/open_to_all", "/api/runs", "/api/runs/x", "/api/runs/x/events",
             "/openapi.json"]  # fmt: skip


@pytest.fixture
async def client(make_nexus, serve):
    nexus = make_nexus(callers.Callers())
    callers.register(nexus)
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        client.nexus = nexus
        yield client


def as_(name):
    return {"authorization": f"Bearer {name}"}


async def run_of(client, name):
    answer = await client.post("/api/workflows/open_to_all/execute?wait=0", json={}, headers=as_(name))
    return answer.json()["run_id"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer mallory"}])
async def test_nobody_learns_anything(client, address, headers):
    answer = await client.get(address, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "authentication_failed"
    assert answer.headers["www-authenticate"] == f'Bearer realm="test", origin="{str(client.base_url).rstrip("/")}"'


async def test_who_may_not_run_a_workflow_does_not_see_it(client):
    def names(answer):
        return {each["name"] for each in answer.json()["workflows"]}

    alice, bob = [await client.get("/api/workflows", headers=as_(name)) for name in ("alice", "bob")]
    assert names(alice) - names(bob) == {"read_data"}
    for name, status in (("alice", 200), ("bob", 404)):
        assert (await client.get("/api/workflows/read_data", headers=as_(name))).status_code == status
        document = (await client.get("/openapi.json", headers=as_(name))).json()
        assert ("/api/workflows/read_data/execute" in document["paths"]) == (status == 200)
        assert ("read_data.input" in document["components"]["schemas"]) == (status == 200)
    unknown = (await client.get("/api/workflows/read_dat", headers=as_("bob"))).json()
    assert "read_data" not in unknown["detail"]


async def test_who_may_not_run_a_workflow_is_refused(client):
    for name, status in (("alice", 200), ("bob", 403)):
        answer = await client.post("/api/workflows/read_data/execute", json={}, headers=as_(name))
        assert answer.status_code == status
    assert answer.json()["missing_permissions"] == ["data.read"]


async def test_another_callers_run_is_not_there(client):
    mine, foreign = await run_of(client, "alice"), await run_of(client, "bob")
    listed = (await client.get("/api/runs", headers=as_("alice"))).json()["runs"]
    assert [run["run_id"] for run in listed] == [mine]
    assert (await client.get(f"/api/runs/{mine}", headers=as_("alice"))).status_code == 200
    for method, address in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        answers = [
            await client.request(method, f"/api/runs/{run_id}{address}", headers=as_("alice"))
            for run_id in (foreign, "nothing")
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json() == answers[1].json()


async def test_a_websocket_follows_its_callers_runs_only(client):
    mine, foreign = await run_of(client, "alice"), await run_of(client, "bob")
    url = str(client.base_url).replace("http", "ws") + "/api/ws"
    async with connect(url, additional_headers=as_("alice")) as socket:
        for call_id, run_id in enumerate((mine, foreign, "nothing")):
            await socket.send(json.dumps({"type": "follow", "id": call_id, "run_id": run_id}))
        last = {}
        while len(last) < 3:
            message = json.loads(await socket.recv())
            if message["type"] in ("result", "error"):
                last[message["id"]] = message
    assert last[0]["result"] == 1
    assert last[1]["error"] == last[2]["error"]
    assert last[1]["error"]["code"] == "run_not_found"


async def test_on_a_websocket_nobody_gets_anything(client):
    url = str(client.base_url).replace("http", "ws") + "/api/ws"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url)
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["code"] == "authentication_failed"


class Budget:
    """Lets each caller make two calls."""

    stage = Stage.LIMIT

    def __init__(self):
        self.left = 2

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]

    async def __call__(self, invocation, call_next):
        limit = RateLimit(2, 60.0, max(0, self.left - 1), 12.5)
        if self.left == 0:
            facts = {name: getattr(limit, name) for name in limit.__slots__}
            raise RateLimited("Too many.", retry_after=12.5, details=facts)
        self.left -= 1
        invocation.rate_limit = limit
        return await call_next(invocation)


async def test_answers_tell_what_is_left_of_the_budget(make_nexus, serve):
    nexus = make_nexus(Budget())
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        answers = [
            await client.post("/api/workflows/add/execute", json={"a": 1}),
            await client.get("/api/workflows"),
            await client.get("/api/workflows"),
            await client.post("/api/workflows/add/execute", json={"a": 1}),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert [answer.headers["ratelimit"] for answer in answers] == [
        '"default";r=1;t=13', '"default";r=0;t=13', '"default";r=0;t=13', '"default";r=0;t=13',
    ]  # fmt: skip
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"default";q=2;w=60'}
    assert answers[2].headers["retry-after"] == "13"


async def test_a_caller_who_leaves_a_stream_does_not_end_a_call_with_a_key(make_nexus, serve, seen, eventually):
    nexus = make_nexus()
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        headers = {"accept": "text/event-stream", "idempotency-key": "k"}
        address, body = "/api/workflows/sleeps/execute", {"seconds": 0.2}
        async with client.stream("POST", address, json=body, headers=headers) as answer:
            await anext(answer.aiter_lines())
        await eventually(lambda: seen.finished == 1)
        again = await client.post(address, json=body, headers={"idempotency-key": "k"})
    assert again.json()["result"] == "slept"
    assert again.json()["replayed"] is True


async def test_all_headers_reach_the_pipeline(make_nexus, serve):
    known = callers.Callers()
    nexus = make_nexus(known)
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        await client.post("/api/workflows/add/execute", json={}, headers={"X-Forwarded-For": "1.2.3.4"})
        await client.get("/api/workflows", headers={"X-API-Key": "abc"})
    assert known.asked[0].headers[b"x-forwarded-for"] == b"1.2.3.4"
    assert known.asked[1].headers[b"x-api-key"] == b"abc"
    assert isinstance(known.asked[0], Invocation)
