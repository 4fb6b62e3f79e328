"""The steps of a run are the same on every channel, and at every process that shares the run store."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from nexus_testing import NexusTestClient
from token_issuer import secret_token

from nexus_core import Caller, Context, Nexus, WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "a secret of the tests, which is long enough"
MEMBERS = {"number", "name", "attempt", "began_at", "ended_at", "duration", "outcome", "size"}


def application(release: threading.Event, **options: Any) -> Nexus:
    nexus = Nexus(**options)
    failures = ["once"]

    async def load(count: int) -> list[int]:
        if failures:
            failures.pop()
            raise WorkflowError("The file is locked.")
        return [*range(count)]

    @nexus.workflow
    async def imported(context: Context, count: int = 5) -> int:
        rows = await context.step("load", load, count, retries=1, backoff=0)
        for row in rows:
            await context.step(f"row {row}", str, row)
        return len(rows)

    @nexus.workflow
    async def waits(context: Context) -> None:
        await context.in_thread(release.wait, 30)

    return nexus


@pytest.fixture
def release() -> Any:
    event = threading.Event()
    yield event
    event.set()


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def everywhere(client: NexusTestClient, run_id: str, **page: int) -> dict[str, Any]:
    """Return what every channel says of a run's steps, which is the same."""
    rest = client.get(f"/api/runs/{run_id}/steps", params=page)
    assert rest.status_code == 200, rest.text
    words = [word for name, value in page.items() for word in (f"--{name}", str(value))]
    cli = client.cli(["--json", "runs", "steps", run_id, *words])
    assert cli.exit_code == 0, cli.stderr
    mcp = client.mcp_call("nexus_runs", {"action": "steps", "run_id": run_id, "limit": 100} | page)
    assert mcp.pop("success")
    assert rest.json() == cli.json() == mcp
    return rest.json()  # type: ignore[no-any-return]


def steps_of(client: NexusTestClient, run_id: str) -> list[dict[str, Any]]:
    return client.get(f"/api/runs/{run_id}/steps").json()["steps"]  # type: ignore[no-any-return]


def test_steps_are_the_same_on_every_channel(release: threading.Event) -> None:
    with NexusTestClient(application(release)) as client:
        run_id = client.post("/api/workflows/imported/execute", {}).json()["run_id"]
        shown = everywhere(client, run_id)
        assert shown.keys() == {"run_id", "steps"}
        steps = shown["steps"]
        assert [(step["number"], step["name"], step["attempt"], step["outcome"]) for step in steps] == [
            (1, "load", 1, "failed"), (2, "load", 2, "completed"),
            *((number + 3, f"row {number}", 1, "completed") for number in range(5)),
        ]  # fmt: skip
        assert steps[0].keys() == MEMBERS | {"error"}
        assert steps[0]["error"] == "The file is locked."
        assert steps[1].keys() == MEMBERS
        assert steps[1]["size"] == len("[0,1,2,3,4]")
        first = everywhere(client, run_id, limit=3)
        assert (first["steps"], first["next"]) == (steps[:3], 3)
        assert everywhere(client, run_id, after=3, limit=5)["steps"] == steps[3:]


def test_what_is_no_page_is_refused_alike(release: threading.Event) -> None:
    with NexusTestClient(application(release)) as client:
        run_id = client.post("/api/workflows/imported/execute", {}).json()["run_id"]
        assert client.get(f"/api/runs/{run_id}/steps", params={"limit": "0"}).json()["code"] == "malformed_request"
        assert client.get(f"/api/runs/{run_id}/steps", params={"after": "x"}).json()["code"] == "malformed_request"
        assert "limit must be from 1" in client.cli(["runs", "steps", run_id, "--limit", "0"]).stderr
        refused = client.mcp_call("nexus_runs", {"action": "steps", "run_id": run_id, "limit": 1000})
        assert "limit must be from 1" in refused["error"]["detail"]
        missing = client.get("/api/runs/unknown/steps")
        assert (missing.status_code, missing.json()["code"]) == (404, "run_not_found")
        assert client.cli(["runs", "steps", "unknown"]).exit_code == 66


def test_steps_are_anothers_business_only_with_its_run(release: threading.Event) -> None:
    nexus = application(release, enable_auth=True, jwt_secret=SECRET)
    with NexusTestClient(nexus, token=secret_token(SECRET, sub="alice")) as alice:
        run_id = alice.post("/api/workflows/imported/execute", {}).json()["run_id"]
        assert len(everywhere(alice, run_id)["steps"]) == 7
        bob = alice.as_user(secret_token(SECRET, sub="bob"))
        assert bob.get(f"/api/runs/{run_id}/steps").status_code == 404


def test_steps_are_shown_by_another_process_with_the_same_store(release: threading.Event, tmp_path: Any) -> None:
    pytest.importorskip("nexus_runs")
    options = {"run_store": "sqlite", "runs_sqlite_path": tmp_path / "runs.db"}
    with NexusTestClient(application(release, **options)) as one, NexusTestClient(Nexus(**options)) as other:
        run_id = one.post("/api/workflows/imported/execute?wait=20", {}).json()["run_id"]
        own = everywhere(one, run_id)
        assert len(own["steps"]) == 7
        eventually(lambda: steps_of(other, run_id) == own["steps"])
        assert everywhere(other, run_id) == own
        assert everywhere(other, run_id, after=2, limit=3) == everywhere(one, run_id, after=2, limit=3)

        waiting = one.post("/api/workflows/waits/execute?wait=0", {}).json()["run_id"]
        eventually(lambda: len(steps_of(other, waiting)) == 1)
        (step,) = everywhere(other, waiting)["steps"]
        assert step.keys() == {"number", "name", "attempt", "began_at"}
        assert other.post(f"/api/runs/{waiting}/cancel", {}).status_code == 202
        eventually(lambda: steps_of(other, waiting)[0].get("outcome") == "cancelled")
        assert everywhere(other, waiting) == everywhere(one, waiting)


async def test_python_reads_the_same_steps(release: threading.Event) -> None:
    nexus = application(release)
    async with nexus:
        result = await nexus.invoke("imported", {"count": 2})
        view = await nexus.view(Caller())
        steps = await view.steps(result.run_id)
        assert [step.to_dict() for step in steps] == (await view.steps_page(result.run_id, {}))["steps"]
        assert [step.name for step in await view.steps(result.run_id, after=2, limit=1)] == ["row 0"]
