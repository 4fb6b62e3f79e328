"""Two processes with one run store: each lists, shows, follows and cancels the runs of both, on every channel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from served_process import ServedProcess, clean_environment
from token_issuer import secret_token
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APP = """
import asyncio
from nexus_core import Context, Nexus

nexus = Nexus()

@nexus.workflow
async def add(a: int = 1, b: int = 2) -> int:
    return a + b

@nexus.workflow
async def count(context: Context, steps: int = 5, pause: float = 0.0, hold: bool = False) -> str:
    for number in range(1, steps + 1):
        context.progress(number, steps)
        await asyncio.sleep(pause)
    if hold:
        await asyncio.sleep(3600)
    return "done"

@nexus.workflow
async def ship(context: Context) -> str:
    return await context.ask("Where to?", str, timeout=3600)

@nexus.workflow
async def broken() -> None:
    raise ValueError("it breaks")
"""
SECONDS = 30.0
SECRET = "the secret of the callers of stored runs, which is long enough"
numbers = count(1)


class Gateway:
    """A served process, and what its clients do."""

    def __init__(self, served: ServedProcess, token: str = "") -> None:
        self.served = served
        self.token = token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.client = httpx2.Client(base_url=served.url(), timeout=SECONDS, headers=headers)

    @classmethod
    def start_process(cls, folder: Path, options: dict[str, str]) -> Gateway:
        return cls(ServedProcess(folder, ("api", "cli", "mcp"), options=options))

    def as_user(self, user: str, *permissions: str) -> Gateway:
        """Return the same process for another client."""
        return Gateway(self.served, secret_token(SECRET, sub=user, permissions=[*permissions]))

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def start(self, workflow: str, **params: Any) -> str:
        """Start a run in the background; return its id."""
        answer = self.execute(workflow, params, prefer="respond-async, wait=0")
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run_id"])

    def execute(self, workflow: str, params: dict[str, Any], **headers: str) -> httpx2.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/api/workflows/{workflow}/execute", json=params, headers=given)

    def events(self, run_id: str, after: int = 0, stop: int | None = None) -> list[tuple[int, str]]:
        """Follow a run; return the numbers and types of its events, up to the last or to number ``stop``."""
        found: list[tuple[int, str]] = []
        headers = {"last-event-id": str(after)} if after else {}
        with self.client.stream("GET", f"/api/runs/{run_id}/events", headers=headers) as answer:
            assert answer.status_code == 200
            number = 0
            for line in answer.iter_lines():
                if line.startswith("id:"):
                    number = int(line.removeprefix("id:"))
                elif line.startswith("data:"):
                    found.append((number, json.loads(line.removeprefix("data:"))["type"]))
                    if number == stop:
                        break
        return found

    def cli(self, *words: str, code: int = 0) -> Any:
        command = [sys.executable, "-m", "nexus_core", "--connect", self.served.url("cli"), "--json", *words]
        environment = clean_environment() | ({"NEXUS_TOKEN": self.token} if self.token else {})
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        if code:
            return json.loads(done.stderr.strip().splitlines()[-1])
        return json.loads(done.stdout) if done.stdout.count("\n") <= 1 else [*map(json.loads, done.stdout.splitlines())]

    def mcp(self, **arguments: Any) -> dict[str, Any]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "nexus_runs", "arguments": arguments, "_meta": meta}
        headers = {
            "accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call", "mcp-name": "nexus_runs",
        }  # fmt: skip
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer = self.client.post(f"{self.served.url('mcp')}/mcp", json=body, headers=headers)
        text = answer.text
        if answer.headers["content-type"].startswith("text/event-stream"):
            text = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")][-1]
        result = json.loads(text)["result"]
        return dict(result["_meta"]["nexus/error"] if result.get("isError") else result["structuredContent"])

    def follow_by_websocket(self, run_id: str, after: int = 0) -> list[tuple[int, str]]:
        found = []
        with connect(self.served.url().replace("http", "ws") + "/api/ws") as socket:
            socket.send(json.dumps({"type": "follow", "id": 1, "run_id": run_id, "after": after}))
            while (reply := json.loads(socket.recv(SECONDS)))["type"] == "event":
                found.append((reply["event"]["number"], reply["event"]["type"]))
        assert (reply["type"], reply["result"]) == ("result", "done")
        return found

    def eventually(self, run_id: str, status: str) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while (run := self.get(f"/api/runs/{run_id}"))["status"] != status:
            assert time.monotonic() < end, run
            time.sleep(0.05)
        return run

    def end(self, number: int = signal.SIGTERM) -> None:
        self.client.close()
        self.served.end(number)


@pytest.fixture(name="options", params=["sqlite", "postgres"])
def options_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Options of a run store."""
    if request.param == "sqlite":
        return {"NEXUS_RUN_STORE": "sqlite", "NEXUS_RUNS_SQLITE_PATH": str(tmp_path / "runs.db")}
    server = request.getfixturevalue("postgres_server")
    schema = f"served_{os.getpid()}_{next(numbers)}"
    return {"NEXUS_RUN_STORE": "postgres", "NEXUS_RUNS_POSTGRES_URL": server.url, "NEXUS_RUNS_POSTGRES_SCHEMA": schema}


@pytest.fixture(name="serve")
def serve_fixture(options: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], Gateway]]:
    (tmp_path / "app.py").write_text(APP)
    shared = {"NEXUS_STORE": "sqlite", "NEXUS_SQLITE_PATH": str(tmp_path / "state.db")}
    started: list[Gateway] = []

    def serve(**more: str) -> Gateway:
        started.append(Gateway.start_process(tmp_path, options | shared | more))
        return started[-1]

    yield serve
    for each in started:
        each.end()


@pytest.fixture(name="pair")
def pair_fixture(serve: Callable[[], Gateway]) -> tuple[Gateway, Gateway]:
    return serve(), serve()


def test_each_process_lists_the_runs_of_both_with_every_filter_on_every_channel(pair: Any) -> None:
    one, two = pair
    added = one.execute("add", {"a": 1}).json()["run_id"]
    held = one.start("count", steps=1, hold=True)
    broken = two.execute("broken", {}).json()["run_id"]
    by_cli = two.cli("execute", "add", "--a", "5")["run_id"]
    done = two.start("count", steps=2)
    for each in pair:
        each.eventually(added, "completed")
        each.eventually(broken, "failed")
        each.eventually(by_cli, "completed")
        each.eventually(done, "completed")
        each.eventually(held, "running")
    newest_first = [done, by_cli, broken, held, added]
    began = {run["run_id"]: run["started_at"] for run in one.get("/api/runs")["runs"]}
    for asked, expected in [
        ({}, newest_first),
        ({"workflow": "add"}, [by_cli, added]),
        ({"status": "running"}, [held]),
        ({"status": "failed"}, [broken]),
        ({"channel": "cli"}, [by_cli]),
        ({"since": str(began[broken])}, [done, by_cli, broken]),
        ({"until": str(began[broken])}, [held, added]),
        ({"text": added[-10:]}, [added]),
        ({"workflow": "count", "status": "completed", "channel": "api"}, [done]),
        ({"workflow": "absent"}, []),
    ]:
        words = [word for name, value in asked.items() for word in (f"--{name}", value)]
        for each in pair:
            pages = [each.get("/api/runs", **asked), each.cli("runs", "list", *words), each.mcp(action="list", **asked)]
            assert [[run["run_id"] for run in page["runs"]] for page in pages] == [expected] * 3, asked
            assert pages[0] == pages[1] == pages[2]
    turns = [lambda **asked: one.get("/api/runs", **asked), lambda **asked: two.mcp(action="list", **asked),
             lambda **asked: two.get("/api/runs", **asked), lambda limit, before: one.cli(
                 "runs", "list", "--limit", str(limit), "--before", before)]  # fmt: skip
    seen, following = [], {}
    for turn in turns:  # each page from another process or channel
        page = turn(limit=2, **following)
        seen += [run["run_id"] for run in page["runs"]]
        if "next" not in page:
            break
        following = {"before": page["next"]}
    assert seen == newest_first
    for each in pair:
        answer = each.client.get("/api/runs", params={"before": "nonsense"})
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    two.client.post(f"/api/runs/{held}/cancel")


def test_a_run_is_shown_followed_and_cancelled_at_the_other_process(pair: Any) -> None:
    one, two = pair
    run_id = one.start("count", steps=20, pause=0.02)
    begun = one.events(run_id, stop=5)
    rest = two.events(run_id, after=5)
    every = begun + rest
    assert [number for number, _ in every] == [*range(1, 23)]
    assert every == one.events(run_id) == two.events(run_id)
    assert every[:-1] == one.follow_by_websocket(run_id) == two.follow_by_websocket(run_id)
    assert two.follow_by_websocket(run_id, 20) == every[20:-1]
    shown = [
        each for gateway in pair for each in (
            gateway.get(f"/api/runs/{run_id}"), gateway.cli("runs", "show", run_id),
            gateway.mcp(action="show", run_id=run_id),
        )
    ]  # fmt: skip
    assert shown[0]["result"] == "done"
    assert all(each == shown[0] for each in shown)
    followed = two.cli("runs", "follow", run_id)
    assert followed[-1] == {"result": "done", "run_id": run_id}

    cancels = [
        lambda held: two.client.post(f"/api/runs/{held}/cancel").json(),
        lambda held: two.cli("runs", "cancel", held),
        lambda held: two.mcp(action="cancel", run_id=held),
    ]
    for cancel in cancels:
        held = one.start("count", steps=1, hold=True)
        assert cancel(held)["cancelled"] is True
        assert two.get(f"/api/runs/{held}?wait=20")["run_id"] == held
        ended = two.eventually(held, "cancelled")
        assert ended == one.eventually(held, "cancelled")
        assert ended["error"]["code"] == "run_cancelled"
        assert two.events(held)[-1][1] == "workflow.cancelled"
        assert cancel(held)["cancelled"] is False


def test_a_killed_process_leaves_no_run_and_no_key_behind(serve: Any) -> None:
    one, two = serve(), serve()
    finished = one.start("count", steps=2)
    result = one.eventually(finished, "completed")
    held = one.start("count", steps=3, hold=True)
    keyed = one.execute("count", {"steps": 1, "hold": True}, idempotency_key="k", prefer="wait=0").json()["run_id"]
    again = two.execute("count", {"steps": 1, "hold": True}, idempotency_key="k")
    assert (again.status_code, again.headers["retry-after"]) == (409, "1")
    two.events(held, stop=4)
    killed_at = time.monotonic()
    one.end(signal.SIGKILL)
    assert two.events(held, after=4) == [(5, "workflow.failed")]
    assert time.monotonic() - killed_at < 20  # 10 s on a machine that is not busy
    run = two.get(f"/api/runs/{held}")
    assert (run["status"], run["error"]["code"]) == ("failed", "run_interrupted")
    assert two.mcp(action="show", run_id=held) == two.cli("runs", "show", held) == run
    two.eventually(keyed, "failed")
    for _ in range(2):
        repeated = two.execute("count", {"steps": 1, "hold": True}, idempotency_key="k")
        assert (repeated.status_code, repeated.json()["code"]) == (500, "run_interrupted")
        assert repeated.json()["run_id"] == keyed
    assert len(two.get("/api/runs", workflow="count")["runs"]) == 3  # nothing ran again

    restarted = serve()
    assert restarted.get(f"/api/runs/{finished}") == result == two.get(f"/api/runs/{finished}")
    assert restarted.get(f"/api/runs/{held}") == run
    assert [number for number, _ in restarted.events(finished, after=2)] == [3, 4]


def test_a_question_is_answered_at_the_other_process_once(pair: Any) -> None:
    one, two = pair
    run_id = one.execute("ship", {}, prefer="wait=20").json()["run_id"]
    (question,) = two.get("/api/questions")["questions"]
    assert (question["run_id"], question["question"], question["schema"]) == (run_id, "Where to?", {"type": "string"})
    assert two.mcp(action="questions") == two.cli("questions", "list") == {"questions": [question]}
    path = f"/api/runs/{run_id}/questions/1"
    with ThreadPoolExecutor(6) as pool:
        clients = [(each, number) for number in range(3) for each in (one, two)]
        replies = [*pool.map(lambda each: each[0].client.post(path, json={"answer": f"Bern {each[1]}"}), clients)]
    assert sorted(reply.status_code for reply in replies) == [200, *[409] * 5]
    (counted,) = [reply.json() for reply in replies if reply.status_code == 200]
    run = two.get(f"/api/runs/{run_id}", wait=20)
    assert (run["status"], run["result"]) == ("completed", two.get(path)["answer"])
    assert counted["status"] == "answered"
    assert [kind for _, kind in two.events(run_id)] == [
        "workflow.started", "workflow.question", "workflow.answered", "workflow.completed",
    ]  # fmt: skip


def test_a_killed_process_withdraws_its_questions(serve: Any) -> None:
    one, two = serve(), serve()
    run_id = one.execute("ship", {}, prefer="wait=20").json()["run_id"]
    assert len(two.get("/api/questions")["questions"]) == 1
    one.end(signal.SIGKILL)
    assert two.eventually(run_id, "failed")["error"]["code"] == "run_interrupted"
    assert two.get("/api/questions") == {"questions": []}
    late = two.client.post(f"/api/runs/{run_id}/questions/1", json={"answer": "Bern"})
    assert (late.status_code, late.json()["code"]) == (409, "question_closed")
    assert late.json()["question_status"] == "withdrawn"


def test_operators_see_the_runs_of_all_callers_and_prune_them(serve: Any) -> None:
    options = {"NEXUS_ENABLE_AUTH": "true", "NEXUS_JWT_SECRET": SECRET, "NEXUS_RUN_STORE_MAX_RUNS": "3"}
    one, two = serve(**options), serve(**options)
    ann, bob = one.as_user("ann"), two.as_user("bob")
    mine = [ann.execute("add", {"a": number}, prefer="wait=10").json()["run_id"] for number in range(2)]
    his = [bob.execute("add", {"a": number}, prefer="wait=10").json()["run_id"] for number in range(3)]
    operator = two.as_user("olga", "nexus.operate")
    operator.eventually(mine[1], "completed")
    operator.eventually(his[2], "completed")
    every = [*reversed(his), *reversed(mine)]
    for asked, expected in [("*", every), ("acme/ann", every[3:]), ("acme/bob", every[:3]), ("ann", [])]:
        pages = [
            operator.get("/api/runs", caller=asked),
            one.as_user("olga", "nexus.operate").get("/api/runs", caller=asked),
            operator.cli("runs", "list", "--caller", asked), operator.mcp(action="list", caller=asked),
        ]  # fmt: skip
        assert [run["run_id"] for run in pages[0]["runs"]] == expected, asked
        assert all(page == pages[0] for page in pages)
    assert operator.get("/api/runs") == {"runs": []}  # nobody asks for others by mistake
    shown = operator.get(f"/api/runs/{mine[0]}")
    assert shown["user_id"] == "ann"
    assert shown == operator.cli("runs", "show", mine[0]) == operator.mcp(action="show", run_id=mine[0])
    for refused in (operator.client.post(f"/api/runs/{mine[0]}/cancel").json(), ann.client.get(
        "/api/runs", params={"caller": "*"}).json(), ann.client.get("/api/runs", params={"caller": "acme/bob"}).json(),
        ann.cli("runs", "list", "--caller", "*", code=77), ann.mcp(action="list", caller="*"),
        ann.cli("runs", "prune", code=77)):  # fmt: skip
        assert refused["code"] == "permission_denied"
    listed = ann.get("/api/runs", caller="acme/ann")
    assert [run.pop("caller") for run in listed["runs"]] == ["acme/ann"] * 2
    assert listed == ann.get("/api/runs")
    assert ann.client.get(f"/api/runs/{his[0]}").status_code == 404
    counted = operator.cli("runs", "prune", "--dry-run")
    assert (counted["runs"], counted["dry_run"], len(operator.get("/api/runs", caller="*")["runs"])) == (2, True, 5)
    pruned = operator.cli("runs", "prune")
    assert pruned == counted | {"dry_run": False, "complete": True}
    assert operator.cli("runs", "prune")["runs"] == 0
    store = operator.get("/api/runs", caller="*")["runs"]
    assert {run["run_id"] for run in store} >= {*his}
