"""The questions of runs are the same on REST, WebSockets, the command line and MCP, and the first answer counts."""

from __future__ import annotations

from typing import Any

import pytest
from nexus_testing import NexusTestClient
from token_issuer import secret_token

from nexus_core import Context, Nexus

SECRET = "a secret of the tests, which is long enough"


def application(**options: Any) -> Nexus:
    nexus = Nexus(**options)

    @nexus.workflow
    async def ship(context: Context, count: int = 1, to: str = "caller") -> str:
        fine = await context.ask(f"Ship {count}?", bool, to=to, details={"count": count}, timeout=3600)
        return f"shipped {count}" if fine else "kept"

    return nexus


def ask(client: NexusTestClient, **params: Any) -> dict[str, Any]:
    reply = client.post("/api/workflows/ship/execute", params)
    assert (reply.status_code, reply.json()["status"]) == (202, "waiting")
    return reply.json()  # type: ignore[no-any-return]


def listed(client: NexusTestClient) -> list[dict[str, Any]]:
    """Return the open questions, which are the same on every channel."""
    rest = client.get("/api/questions")
    assert rest.status_code == 200, rest.text
    with client.websocket() as socket:
        socket.send_json({"type": "questions", "id": 1})
        assert socket.receive_json() == {"type": "result", "id": 1, "result": rest.json()}
    cli = client.cli(["--json", "questions", "list"])
    assert cli.exit_code == 0, cli.stderr
    shown = cli.json()
    for question in shown["questions"]:
        question.pop("may_answer", None)
    assert shown == rest.json()
    tool = client.mcp_call("nexus_runs", {"action": "questions"})
    assert tool.pop("success")
    assert tool == rest.json()
    return rest.json()["questions"]  # type: ignore[no-any-return]


def by_rest(client: NexusTestClient, run_id: str, value: Any) -> str | None:
    """Return the code of the error, or None."""
    return client.post(f"/api/runs/{run_id}/questions/1", {"answer": value}).json().get("code")  # type: ignore[no-any-return]


def by_websocket(client: NexusTestClient, run_id: str, value: Any) -> str | None:
    with client.websocket() as socket:
        socket.send_json({"type": "answer", "id": 1, "run_id": run_id, "number": 1, "answer": value})
        return socket.receive_json().get("error", {}).get("code")  # type: ignore[no-any-return]


def by_command(client: NexusTestClient, run_id: str, value: Any) -> str | None:
    done = client.cli(["--json", "questions", "answer", run_id, "1", "--answer", "true" if value is True else "7"])
    return None if done.exit_code == 0 else {2: "validation_error", 65: "question_closed", 66: "question_not_found",
                                             77: "permission_denied"}.get(done.exit_code, done.stderr)  # fmt: skip


def by_tool(client: NexusTestClient, run_id: str, value: Any) -> str | None:
    arguments = {"action": "answer", "run_id": run_id, "number": 1, "answer": value}
    return client.mcp_call("nexus_runs", arguments).get("error", {}).get("code")  # type: ignore[no-any-return]


CHANNELS = (by_rest, by_websocket, by_command, by_tool)


@pytest.mark.parametrize("answer", CHANNELS)
def test_questions_are_the_same_on_every_channel(answer: Any) -> None:
    with NexusTestClient(application()) as client:
        runs = [ask(client, count=count) for count in (1, 2)]
        assert listed(client) == [question for run in runs for question in run["questions"]]
        run_id = runs[0]["run_id"]
        assert [each(client, run_id, 7) for each in CHANNELS] == ["validation_error"] * len(CHANNELS)
        assert answer(client, run_id, True) is None
        assert [each(client, run_id, True) for each in CHANNELS] == ["question_closed"] * len(CHANNELS)
        assert client.get(f"/api/runs/{run_id}?wait=20").json()["result"] == "shipped 1"
        assert listed(client) == runs[1]["questions"]


def test_who_may_answer_is_the_same_on_every_channel() -> None:
    nexus = application(enable_auth=True, jwt_secret=SECRET)
    with NexusTestClient(nexus, token=secret_token(SECRET, sub="ann")) as ann:
        bob, eve = (ann.as_user(secret_token(SECRET, sub=name)) for name in ("bob", "eve"))
        run_id = ask(ann, to="user:bob")["run_id"]
        assert (len(listed(ann)), len(listed(bob)), len(listed(eve))) == (0, 1, 0)
        for each in CHANNELS:
            assert each(ann, run_id, True) == "permission_denied"
            assert each(eve, run_id, True) == "question_not_found"
        assert by_command(bob, run_id, True) is None
        assert ann.get(f"/api/runs/{run_id}?wait=20").json()["result"] == "shipped 1"
