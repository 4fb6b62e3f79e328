"""`/api/questions` and `/api/runs/{id}/questions`, and calls of workflows that ask."""

from __future__ import annotations

import asyncio

import asking
import httpx2
import pytest

from nexus_core import Context

EXECUTE = "/api/workflows/{}/execute"


def as_(name):
    return {"authorization": f"Bearer {name}"}


@pytest.fixture
async def client(make_nexus, serve):
    nexus = make_nexus(insecure=True)
    asking.register(nexus)
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        client.nexus = nexus
        yield client


@pytest.fixture
async def known(make_nexus, serve):
    """A client of a platform that authenticates its callers."""
    nexus = make_nexus(asking.Users())
    asking.register(nexus)
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        client.nexus = nexus
        yield client


async def ask(client, name, params=None, **headers):
    """Call a workflow, and return its run, which waits."""
    answer = await client.post(EXECUTE.format(name), json=params or {}, headers={"prefer": "wait=20"} | headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/runs/{answer.json()['run_id']}"
    assert answer.json()["status"] == "waiting"
    return answer.json()


def place(run, number=1):
    return f"/api/runs/{run['run_id']}/questions/{number}"


async def test_a_waited_for_call_is_answered_when_it_asks(client):
    run = await ask(client, "ship", {"count": 3})
    assert [question["question"] for question in run["questions"]] == ["Ship 3?"]
    assert run["questions"] == (await client.get("/api/questions")).json()["questions"]
    shown = await client.get(f"/api/runs/{run['run_id']}?wait=20")
    assert (shown.json()["status"], shown.json()["questions"]) == ("waiting", run["questions"])
    assert shown.headers["retry-after"] == "1"
    answered = await client.post(place(run), json={"answer": True})
    assert (answered.status_code, answered.json()["status"], answered.json()["answer"]) == (200, "answered", True)
    ended = (await client.get(f"/api/runs/{run['run_id']}?wait=20")).json()
    assert (ended["status"], ended["result"]) == ("completed", "shipped 3")
    assert "questions" not in ended


@pytest.mark.parametrize(
    ("name", "params", "value", "result"),
    [("ship", {"count": 1}, False, "kept"), ("how_many", {}, 4, 4), ("confirmed", {"value": 7}, True, 7)],
)
async def test_a_plain_call_that_is_known_to_ask_does_not_hang(client, name, params, value, result):
    answer = await client.post(EXECUTE.format(name), json=params)
    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
    run = answer.json()
    assert (await client.post(place(run), json={"answer": value})).status_code == 200
    ended = (await client.get(answer.headers["location"], params={"wait": 20})).json()
    assert (ended["status"], ended["result"]) == ("completed", result)


async def test_who_leaves_before_the_question_cancels_the_run(client, eventually, raw, post):
    begun, gate = asyncio.Event(), asyncio.Event()

    @client.nexus.workflow
    async def thinks(context: Context) -> bool:
        begun.set()
        await gate.wait()
        return await context.ask("Fine?", bool)

    connection = raw(client.base_url)
    await connection.send(post("thinks"))
    await asyncio.wait_for(begun.wait(), 10)
    connection.close()
    await eventually(lambda: [run.status for run in client.nexus.runs.find(workflow="thinks")] == ["cancelled"])


async def test_who_leaves_after_the_question_leaves_the_run(client, eventually, raw, post):
    connection = raw(client.base_url)
    assert (await connection.ask(post("ship", {"count": 2}, "Connection: close"))).startswith(b"HTTP/1.1 202 ")
    connection.close()
    (question,) = (await client.get("/api/questions")).json()["questions"]
    assert (await client.post(place(question), json={"answer": True})).status_code == 200
    ended = (await client.get(f"/api/runs/{question['run_id']}?wait=20")).json()
    assert (ended["status"], ended["result"]) == ("completed", "shipped 2")


async def test_which_workflows_are_known_to_ask(client):
    may_wait = {workflow.name for workflow in client.nexus.workflows.every() if workflow.may_wait}
    assert may_wait == {"ship", "delegate", "how_many", "twice", "wipe", "confirmed"}


async def test_a_refused_approval_is_the_end_of_the_run(client):
    run = await ask(client, "confirmed")
    await client.post(place(run), json={"answer": False})
    ended = (await client.get(f"/api/runs/{run['run_id']}?wait=20")).json()
    assert (ended["status"], ended["error"]["code"]) == ("failed", "approval_denied")


async def test_what_policies_refuse_is_refused_at_once(client):
    assert (await client.post(EXECUTE.format("ship"), json={"count": "x"})).status_code == 422


async def test_a_repeated_key_is_refused_while_the_first_call_waits(client):
    headers = {"idempotency-key": "k1"}
    first = await client.post(EXECUTE.format("ship"), json={"count": 1}, headers=headers)
    repeat = await client.post(EXECUTE.format("ship"), json={"count": 1}, headers=headers)
    assert (first.status_code, repeat.status_code) == (202, 409)
    await client.post(place(first.json()), json={"answer": True})
    await client.get(first.headers["location"], params={"wait": 20})
    later = await client.post(EXECUTE.format("ship"), json={"count": 1}, headers=headers)
    assert (later.status_code, later.json()["run_id"]) == (200, first.json()["run_id"])


async def test_a_plain_call_that_hides_its_question_waits_for_the_answer(client, eventually):
    call = asyncio.create_task(client.post(EXECUTE.format("helped")))
    await eventually(lambda: any(run.questions for run in client.nexus.runs.running()))
    run = (await client.get("/api/runs")).json()["runs"][0]
    await client.post(place(run), json={"answer": True})
    assert (await call).json()["result"] is True


async def test_all_that_a_run_has_asked(client):
    run = await ask(client, "twice")
    await client.post(place(run), json={"answer": "a"})
    waiting = (await client.get(f"/api/runs/{run['run_id']}?wait=20")).json()
    assert [question["number"] for question in waiting["questions"]] == [2]
    both = (await client.get(f"/api/runs/{run['run_id']}/questions")).json()["questions"]
    assert [(each["number"], each["status"], each.get("answer")) for each in both] == [
        (1, "answered", "a"), (2, "open", None),
    ]  # fmt: skip
    assert (await client.get(place(run, 2))).json() == both[1]
    assert (await client.get(place(run, 1))).json() == both[0]
    await client.post(f"/api/runs/{run['run_id']}/cancel")
    await client.get(f"/api/runs/{run['run_id']}?wait=20")
    assert (await client.get(place(run, 2))).json()["status"] == "withdrawn"


async def test_listings_of_runs_are_without_questions(client):
    run = await ask(client, "ship", {"count": 1})
    listed = (await client.get("/api/runs", params={"status": "waiting"})).json()["runs"]
    assert [(each["run_id"], "questions" in each) for each in listed] == [(run["run_id"], False)]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({}, 400, "/answer: missing"),
        ({"anwser": True}, 400, "/anwser: unknown name"),
        ({"answer": True, "by": "me"}, 400, "/by: unknown name"),
        ([True], 400, "must be a JSON object"),
        ({"answer": "yes"}, 422, "/answer: expected boolean"),
        ({"answer": None}, 422, "/answer: expected boolean"),
    ],
)
async def test_answers_of_another_form_are_refused(client, body, status, detail):
    run = await ask(client, "ship", {"count": 1})
    refused = await client.post(place(run), json=body)
    assert refused.status_code == status
    assert detail in refused.json()["detail"]
    assert (await client.get(place(run))).json()["status"] == "open"


async def test_an_answer_is_json(client):
    run = await ask(client, "ship", {"count": 1})
    refused = await client.post(place(run), content=b"answer=true", headers={"content-type": "text/plain"})
    assert refused.status_code == 400


async def test_a_question_is_answered_once(client):
    run = await ask(client, "how_many")
    answers = await asyncio.gather(*(client.post(place(run), json={"answer": each}) for each in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert (refused["code"], refused["question_status"]) == ("question_closed", "answered")
    first = next(answer.json()["answer"] for answer in answers if answer.status_code == 200)
    ended = (await client.get(f"/api/runs/{run['run_id']}?wait=20")).json()
    assert ended["result"] == first


@pytest.mark.parametrize("number", ["2", "0", "x", "-1", "1.0", "99999999999", "%D9%A1"])
async def test_questions_that_are_not_there(client, number):
    run = await ask(client, "ship", {"count": 1})
    for answer in (await client.get(place(run, number)), await client.post(place(run, number), json={"answer": True})):
        assert (answer.status_code, answer.json()["code"]) == (404, "question_not_found")
    assert (await client.get("/api/runs/nothing/questions")).status_code == 404
    assert (await client.get("/api/runs/nothing/questions/1")).status_code == 404


async def test_pages_of_open_questions(client):
    runs = [await ask(client, "ship", {"count": count}) for count in range(5)]
    found, after = [], None
    while True:
        page = (await client.get("/api/questions", params={"limit": 2} | ({"after": after} if after else {}))).json()
        found += page["questions"]
        after = page.get("next")
        if after is None:
            break
    assert [each["run_id"] for each in found] == [run["run_id"] for run in runs]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "after=x", "caller=ann"])
async def test_bad_filters(client, query):
    assert (await client.get(f"/api/questions?{query}")).status_code == 400


async def test_only_who_is_asked_sees_and_answers(known):
    run = await ask(known, "delegate", {"to": "user:bob"}, **as_("ann"))
    questions = {
        name: (await known.get("/api/questions", headers=as_(name))).json()["questions"] for name in asking.USERS
    }
    assert {name for name, found in questions.items() if found} == {"bob"}
    assert (await known.get(place(run), headers=as_("ann"))).status_code == 200  # it is of her run
    refused = await known.post(place(run), json={"answer": True}, headers=as_("ann"))
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    for answer in (
        await known.get(place(run), headers=as_("eve")),
        await known.post(place(run), json={"answer": True}, headers=as_("eve")),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "question_not_found")
    for name, status in (("ann", 200), ("bob", 200), ("eve", 404)):
        assert (await known.get(f"/api/runs/{run['run_id']}/questions", headers=as_(name))).status_code == status
    answered = await known.post(place(run), json={"answer": True}, headers=as_("bob"))
    assert (answered.status_code, answered.json()["answered_by"]) == (200, "bob")
    ended = (await known.get(f"/api/runs/{run['run_id']}?wait=20", headers=as_("ann"))).json()
    assert ended["result"] == "yes"


async def test_who_has_the_permission_approves(known):
    answer = await known.post(EXECUTE.format("wipe"), json={"name": "db"}, headers=as_("ann"))
    run = answer.json()
    assert (answer.status_code, run["questions"][0]["to"]) == (202, "permission:ship.approve")
    listed = (await known.get("/api/questions", headers=as_("pat"))).json()["questions"]
    assert [question["details"]["parameters"] for question in listed] == [{"name": "db"}]
    assert listed[0]["details"]["caller"] == "ann"
    answered = await known.post(place(run), json={"answer": True}, headers=as_("pat"))
    assert (answered.status_code, answered.json()["answered_by"]) == (200, "pat")
    ended = (await known.get(f"/api/runs/{run['run_id']}?wait=20", headers=as_("ann"))).json()
    assert ended["result"] == "wiped db"


async def test_no_caller_approves_its_own_call(known):
    run = await ask(known, "wipe", {"name": "db"}, **as_("pat"))
    assert not (await known.get("/api/questions", headers=as_("pat"))).json()["questions"]
    refused = await known.post(place(run), json={"answer": True}, headers=as_("pat"))
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")


async def test_operators_see_the_questions_to_everybody(known):
    run = await ask(known, "delegate", {"to": "user:bob"}, **as_("ann"))
    every = await known.get("/api/questions?caller=*", headers=as_("olga"))
    assert [each["run_id"] for each in every.json()["questions"]] == [run["run_id"]]
    assert (await known.get("/api/questions?caller=*", headers=as_("pat"))).status_code == 403
    assert (await known.post(place(run), json={"answer": True}, headers=as_("olga"))).status_code == 403


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nobody_unknown_learns_anything(known, method):
    run = await ask(known, "ship", {"count": 1}, **as_("ann"))
    paths = [place(run)] if method == "POST" else ["/api/questions", f"/api/runs/{run['run_id']}/questions", place(run)]
    for path in paths:
        assert (await known.request(method, path)).status_code == 401
