"""Runs that wait for an answer, seen and answered at another process."""

from __future__ import annotations

import asyncio

from nexus_runs.plugin import RunsPlugin

from nexus_core import Caller, Context, Invocation, Nexus
from nexus_core.runs.stored_run import StoredRun


def platform(path):
    nexus = Nexus(discover=False, plugins=[RunsPlugin], run_store="sqlite", runs_sqlite_path=str(path))

    @nexus.workflow
    async def asks(context: Context) -> list:
        return [await context.ask("First?", int, details={"of": {"a": 1}}), await context.ask("Second?", int)]

    return nexus


async def test_a_waiting_run_is_shown_with_its_questions_at_another_process(tmp_path):
    one, other = platform(tmp_path / "runs.db"), platform(tmp_path / "runs.db")
    async with one, other:
        run = one.submit(Invocation("asks", {}))
        await run.settled(10)
        view = await other.view(Caller())
        for number, question in enumerate(("First?", "Second?"), start=1):
            stored = await view.run(run.id)
            assert isinstance(stored, StoredRun)
            await stored.settled(10)
            shown = stored.to_dict()
            assert (shown["status"], [each["question"] for each in shown["questions"]]) == ("waiting", [question])
            assert shown["questions"] == (await view.questions.page({}))["questions"]
            assert "questions" not in stored.to_dict(with_result=False)
            await view.questions.answer(run.id, number, number)
        await stored.settled(10)
        assert (stored.to_dict()["status"], stored.to_dict()["result"]) == ("completed", [1, 2])


async def test_a_wait_at_another_process_ends_when_the_run_asks(tmp_path):
    one, other = platform(tmp_path / "runs.db"), platform(tmp_path / "runs.db")
    async with one, other:
        run = one.submit(Invocation("asks", {}))
        await run.settled(10)
        view = await other.view(Caller())
        stored = await view.run(run.id)
        await view.questions.answer(run.id, 1, 5)
        await asyncio.wait_for(stored.settled(60), 20)
        assert [each.text for each in stored.questions] == ["Second?"]
