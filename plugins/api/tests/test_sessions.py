"""``/api/sessions``: begun, used by calls, changed, ended, and never another's."""

from __future__ import annotations

import asyncio

import callers
import httpx2
import pytest

from nexus_core import Context


@pytest.fixture
async def client(make_nexus, serve):
    nexus = make_nexus(callers.Callers())

    @nexus.workflow
    async def remember(name: str, context: Context) -> dict:
        context.session.state["name"] = name
        return context.session.state

    headers = {"authorization": "Bearer alice"}
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20, headers=headers) as client:
        client.nexus = nexus
        yield client


async def test_a_session_from_beginning_to_end(client):
    begun = await client.post("/api/sessions")
    assert begun.status_code == 201
    session = begun.json()
    address = begun.headers["location"]
    assert address == f"/api/sessions/{session['session_id']}"
    assert (session["state"], session["active_channels"], session["version"]) == ({}, ["api"], 1)
    headers = {"x-nexus-session": session["session_id"]}
    called = await client.post("/api/workflows/remember/execute", json={"name": "Ada"}, headers=headers)
    assert called.json()["result"] == {"name": "Ada"}
    changed = await client.patch(address, json={"state": {"city": "Bern", "name": None}, "version": 2})
    assert (changed.json()["state"], changed.json()["version"]) == ({"city": "Bern"}, 3)
    assert (await client.get(address)).json() == changed.json()
    late = await client.patch(address, json={"state": {"city": "Thun"}, "version": 2})
    assert (late.status_code, late.json()["code"], late.json()["version"]) == (409, "conflict", 3)
    assert (await client.delete(address)).status_code == 204
    for gone in (client.get(address), client.delete(address), client.patch(address, json={"state": {}}),
                 client.post("/api/workflows/remember/execute", json={"name": "x"}, headers=headers)):  # fmt: skip
        answer = await gone
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


async def test_a_session_gets_another_id(client):
    old = (await client.post("/api/sessions")).headers["location"]
    await client.patch(old, json={"state": {"a": 1}})
    renewed = await client.post(f"{old}/renew")
    assert (renewed.status_code, renewed.json()["state"], renewed.json()["version"]) == (201, {"a": 1}, 3)
    assert (await client.get(renewed.headers["location"])).json() == renewed.json()
    for gone in (client.get(old), client.post(f"{old}/renew"), client.get("/api/events", params={"session": old[14:]})):
        answer = await gone
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    new = renewed.headers["location"]
    others = await client.post(f"{new}/renew", headers={"authorization": "Bearer bob"})
    assert (others.status_code, others.json()) == (404, answer.json())


async def test_anothers_session_is_not_there(client):
    address = (await client.post("/api/sessions")).headers["location"]
    headers = {"authorization": "Bearer bob"}
    for method, path in (("GET", address), ("DELETE", address), ("PATCH", address)):
        body = {"state": {"a": 1}} if method == "PATCH" else None
        answers = [await client.request(method, each, headers=headers, json=body) for each in (path, path[:-1] + "~")]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json() == answers[1].json()
        nobody = await client.request(method, path, headers={"authorization": ""}, json=body)
        assert nobody.status_code == 401
    assert (await client.get(address)).json()["version"] == 1


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({}, 400, "/state: expected object"), ({"state": []}, 400, "not array"),
        ({"state": {}, "version": "1"}, 400, "/version"), ({"state": {}, "verson": 1}, 400, "/verson: unknown"),
        ({"state": {"a": "x" * 70_000}}, 422, "at most 65536 bytes"),
        ("{", 400, "not valid JSON"), ('{"state": {"a": NaN}}', 400, ""), (None, 400, "/state"),
    ],
)  # fmt: skip
async def test_changes_that_are_none(client, body, status, detail):
    address = (await client.post("/api/sessions")).headers["location"]
    content = {"content": body.encode()} if isinstance(body, str) else {"json": body} if body is not None else {}
    answer = await client.patch(address, headers={"content-type": "application/json"}, **content)
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text
    assert (await client.get(address)).json()["version"] == 1


async def test_many_writers_lose_nothing(client):
    address = (await client.post("/api/sessions")).headers["location"]

    async def write(number):
        while (await client.patch(address, json={"state": {str(number): number}})).status_code == 409:
            pass

    await asyncio.gather(*(write(number) for number in range(50)))
    session = (await client.get(address)).json()
    assert session["state"] == {str(number): number for number in range(50)}
    assert session["version"] == 51
