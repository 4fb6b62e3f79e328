"""Runs that are repeated, over REST."""

from __future__ import annotations

import httpx2
import pytest

from nexus_core import WorkflowError, hookimpl
from nexus_core.runs.memory import MemoryRunStore


class KeptStore(MemoryRunStore):
    name = "kept"


class GivesStore:
    @hookimpl
    def nexus_register_run_stores(self):
        return [KeptStore()]


@pytest.fixture
async def shop(make_nexus, serve):
    nexus = make_nexus(GivesStore(), run_store="kept")
    mended = []

    @nexus.workflow
    async def sell(item: str) -> str:
        if not mended:
            raise WorkflowError("Sold out.")
        return item

    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        client.mended = mended
        yield client


async def _fails(client, item):
    answer = await client.post("/api/workflows/sell/execute?wait=20", json={"item": item})
    return answer.json()["run_id"]


async def test_a_failed_run_is_retried(shop):
    failed = await _fails(shop, "tea")
    shop.mended.append(True)
    answer = await shop.post(f"/api/runs/{failed}/retry", headers={"idempotency-key": "k1"})
    assert (answer.status_code, answer.json()["parent"]) == (202, failed)
    run_id = answer.json()["run_id"]
    assert answer.headers["location"] == f"/api/runs/{run_id}"
    shown = (await shop.get(f"/api/runs/{run_id}?wait=20")).json()
    assert (shown["status"], shown["result"]) == ("completed", "tea")
    again = await shop.post(f"/api/runs/{failed}/retry", headers={"idempotency-key": "k1"})
    assert again.json()["run_id"] == run_id
    fork = await shop.post(f"/api/runs/{failed}/fork", json={"from_step": 1})
    assert (fork.status_code, fork.json()["code"]) == (409, "conflict")


async def test_many_are_retried(shop):
    failed = [await _fails(shop, str(number)) for number in range(3)]
    preview = await shop.post("/api/runs/retry", json={"status": "failed", "workflow": "sell", "dry_run": True})
    assert (preview.status_code, preview.json()) == (200, {"dry_run": True, "runs": 3, "first": failed[::-1]})
    shop.mended.append(True)
    answer = await shop.post("/api/runs/retry", json={"status": "failed", "batch": "b1"})
    assert [each["run_id"] for each in answer.json()["retried"]] == failed[::-1]


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("none/retry", {}, 404, "run"),
        ("none/fork", {"from_step": 1}, 404, "run"),
        ("none/fork", {}, 400, "/from_step"),
        ("none/fork", {"from_step": True}, 400, "/from_step"),
        ("none/fork", {"from_step": 1, "params": []}, 400, "/params"),
        ("none/fork", {"from_step": 1, "step": 1}, 400, "/step"),
        ("retry", {}, 400, "status"),
        ("retry", {"status": "running"}, 400, "status"),
        ("retry", {"status": "failed"}, 400, "batch"),
        ("retry", {"status": "failed", "batch": 1}, 400, "/batch"),
        ("retry", {"status": "failed", "dry_run": 1}, 400, "/dry_run"),
        ("retry", {"status": "failed", "since": "soon"}, 400, "since"),
        ("retry", {"status": "failed", "owner": "x"}, 400, "/owner"),
    ],
)
async def test_what_is_refused(shop, path, body, status, field):
    answer = await shop.post(f"/api/runs/{path}", json=body)
    assert (answer.status_code, field in answer.json()["detail"]) == (status, True), answer.json()
