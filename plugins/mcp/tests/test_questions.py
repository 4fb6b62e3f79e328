"""Questions of runs: a call returns when it waits for an answer, and a tool answers."""

from __future__ import annotations

import asyncio

import pytest

from nexus_core import Context


def asking(build, **options):
    nexus = build(**options)

    @nexus.workflow
    async def ship(context: Context, count: int = 1, to: str = "caller") -> str:
        context.progress(1, 2)
        fine = await context.ask(f"Ship {count}?", bool, to=to, details={"count": count})
        return f"shipped {count}" if fine else "kept"

    @nexus.workflow
    async def twice(context: Context) -> list[bool]:
        return list(await asyncio.gather(context.ask("One?", bool), context.ask("Two?", bool)))

    return nexus


async def runs(client, **arguments):
    return await client.call_tool("nexus_runs", arguments)


@pytest.mark.parametrize("reports", [False, True])
async def test_a_call_returns_when_it_waits_and_is_answered(build, kit, era, reports):
    nexus, told = asking(build, mcp_wait=60), []

    async def progress(*report):
        told.append(report)

    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        result = await client.call_tool("ship", {"count": 3}, **({"progress_callback": progress} if reports else {}))
        reply = result.structured_content
        assert (result.is_error, reply["status"], reply["workflow"]) == (False, "waiting", "ship")
        (question,) = reply["questions"]
        assert (question["question"], question["schema"]) == ("Ship 3?", {"type": "boolean"})
        text = result.content[0].text
        for part in ("Ship 3?", '{"type":"boolean"}', "nexus_runs", "action answer", reply["run_id"]):
            assert part in text
        assert bool(told) == reports

        waited = await runs(client, action="wait", run_id=reply["run_id"], wait=30)
        assert waited.structured_content["status"] == "waiting"
        assert (await runs(client, action="questions")).structured_content["questions"] == [question]
        wrong = await runs(client, action="answer", run_id=reply["run_id"], answer="maybe")
        assert wrong.is_error
        assert "/answer: expected boolean" in wrong.content[0].text
        answered = await runs(client, action="answer", run_id=reply["run_id"], number=1, answer=True)
        assert answered.structured_content["status"] == "answered"
        ended = await runs(client, action="wait", run_id=reply["run_id"], wait=30)
        assert ended.structured_content["result"] == "shipped 3"
        again = await runs(client, action="answer", run_id=reply["run_id"], number=1, answer=True)
        assert again.meta["nexus/error"]["code"] == "question_closed"
        (kept,) = (await runs(client, action="questions", run_id=reply["run_id"])).structured_content["questions"]
        assert kept["answer"] is True


async def test_the_number_is_needed_where_it_is_not_clear(build, kit, era):
    async with kit.serving(asking(build)) as address, kit.connected(address, era) as client:
        run_id = (await client.call_tool("twice", {})).structured_content["run_id"]
        async with asyncio.timeout(20):
            while len((await runs(client, action="questions")).structured_content["questions"]) < 2:
                pass
        refused = await runs(client, action="answer", run_id=run_id, answer=True)
        assert "/number: required: the run has 2 open questions" in refused.content[0].text
        assert not (await runs(client, action="answer", run_id=run_id, number=2, answer=False)).is_error
        assert not (await runs(client, action="answer", run_id=run_id, answer=True)).is_error
        ended = await runs(client, action="wait", run_id=run_id, wait=30)
        assert ended.structured_content["result"] == [True, False]
        for arguments, part in (
            ({"action": "answer", "answer": True}, "/run_id: required for answer"),
            ({"action": "answer", "run_id": "no such run", "number": 1, "answer": True}, "no question 1"),
            ({"action": "questions", "limit": 101}, "/limit: expected a whole number from 1 to 100"),
            ({"action": "questions", "caller": "ann"}, "caller must be *"),
            ({"action": "questions", "after": "x"}, "after is not a cursor"),
        ):
            wrong = await runs(client, **arguments)
            assert wrong.is_error
            assert part in wrong.content[0].text, wrong.content[0].text


async def test_a_question_is_in_the_words_of_who_may_answer(build, kit, era):
    async with kit.serving(asking(build)) as address, kit.connected(address, era) as client:
        result = await client.call_tool("ship", {"to": "user:boss"})
        assert "It is for user:boss to answer." in result.content[0].text
