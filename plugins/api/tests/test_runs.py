"""`/api/runs` and waiting."""

from __future__ import annotations

import pytest

EXECUTE = "/api/workflows/{}/execute"


async def submit(client, name, params=None):
    answer = await client.post(EXECUTE.format(name) + "?wait=0", json=params or {})
    assert answer.status_code == 202
    return answer.json()["run_id"]


async def test_a_fast_answer_comes_in_time(client):
    answer = await client.post(EXECUTE.format("add"), json={"a": 1}, headers={"prefer": "respond-async, wait=5"})
    assert (answer.status_code, answer.json()["result"]) == (200, 1)
    assert answer.headers["preference-applied"] == "wait=5"


async def test_a_slow_one_becomes_a_handle(client):
    answer = await client.post(EXECUTE.format("sleeps"), json={"seconds": 0.5}, headers={"prefer": "wait=0.05"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "running"
    assert answer.headers["location"] == f"/api/runs/{answer.json()['run_id']}"
    assert int(answer.headers["retry-after"]) >= 1
    later = await client.get(answer.headers["location"], params={"wait": 10})
    assert (later.json()["status"], later.json()["result"]) == ("completed", "slept")


async def test_failures_show_in_a_waited_for_answer(client):
    answer = await client.post(EXECUTE.format("refuses") + "?wait=5")
    assert (answer.status_code, answer.json()["detail"]) == (500, "The warehouse is closed.")


async def test_what_is_refused_is_refused_at_once(client):
    assert (await client.post(EXECUTE.format("add") + "?wait=0", json={"a": "x"})).status_code == 422
    assert (await client.post(EXECUTE.format("nothing") + "?wait=0")).status_code == 404


BAD_WAITS = ["", "x", "-1", "nan", "inf", "1e9", "3601", "0x1", "1_0", "1;2", "\u0663"]


@pytest.mark.parametrize("value", BAD_WAITS)
async def test_bad_waits_start_nothing(client, raw, value):
    value = value if value.isascii() else "%D9%A3"
    answer = await raw(client.base_url).ask(
        f"POST /api/workflows/sleeps/execute?wait={value} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert not client.nexus.runs.find(workflow="sleeps")


async def test_bad_waits_in_the_header(client):
    for value in set(BAD_WAITS) - {"1;2"}:  # in a header, what follows the semicolon is a parameter
        headers = {"prefer": f"wait={value}".encode()}
        assert (await client.post(EXECUTE.format("sleeps"), headers=headers)).status_code == 400
    assert not client.nexus.runs.find(workflow="sleeps")


async def test_list_and_filter(client):
    for a in range(3):
        await client.post(EXECUTE.format("add"), json={"a": a})
    await client.post(EXECUTE.format("boom"))
    runs = (await client.get("/api/runs")).json()["runs"]
    assert [run["workflow"] for run in runs] == ["boom", "add", "add", "add"]
    assert runs[0]["error"]["code"] == "workflow_failed"
    assert not any("result" in run for run in runs)
    assert len((await client.get("/api/runs", params={"limit": 2})).json()["runs"]) == 2
    assert len((await client.get("/api/runs", params={"workflow": "boom"})).json()["runs"]) == 1
    assert len((await client.get("/api/runs", params={"status": "completed"})).json()["runs"]) == 3


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=", "limit=9999999999999999999999", "status=done"]
)
async def test_bad_filters(client, query):
    answer = await client.get(f"/api/runs?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_cancel(client, seen):
    run_id = await submit(client, "sleeps")
    await seen.started.wait()
    answer = await client.post(f"/api/runs/{run_id}/cancel")
    assert (answer.status_code, answer.json()["cancelled"]) == (202, True)
    shown = (await client.get(f"/api/runs/{run_id}", params={"wait": 5})).json()
    assert (shown["status"], shown["error"]["code"]) == ("cancelled", "run_cancelled")
    again = await client.post(f"/api/runs/{run_id}/cancel")
    assert (again.status_code, again.json()["cancelled"]) == (200, False)


async def test_cancel_of_a_sync_run(client, seen, idle):
    run_id = await submit(client, "sync_sleeps")
    await client.post(f"/api/runs/{run_id}/cancel")
    assert (await client.get(f"/api/runs/{run_id}?wait=5")).json()["status"] == "cancelled"
    await idle(client.nexus)
    assert seen.cancelled.is_set()


async def test_a_run_cancelled_before_it_began_has_an_end(client):
    from nexus_core import Invocation

    run = client.nexus.submit(Invocation("sleeps", {}, "api"))
    run.cancel()
    assert await run.wait(2)
    assert run.status == "cancelled"


async def test_a_cancelled_caller_gets_an_answer(client, seen):
    import asyncio

    call = asyncio.create_task(client.post(EXECUTE.format("sleeps")))
    await seen.started.wait()
    (run,) = (await client.get("/api/runs", params={"status": "running"})).json()["runs"]
    await client.post(f"/api/runs/{run['run_id']}/cancel")
    answer = await call
    assert (answer.status_code, answer.json()["code"]) == (409, "run_cancelled")


@pytest.mark.parametrize("path", ["", "/cancel", "/events"])
@pytest.mark.parametrize("run_id", ["nobody", "..", "%00", "x" * 5000])
async def test_unknown_runs(client, raw, path, run_id):
    method = "POST" if path == "/cancel" else "GET"
    answer = await raw(client.base_url).ask(
        f"{method} /api/runs/{run_id}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"application/problem+json" in answer
