"""Answers requests about the questions of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_cli.server.requests import LARGEST_NUMBER
from nexus_core.runs.listing import QUESTION_FILTERS
from nexus_core.runs.status import RunStatus

if TYPE_CHECKING:
    from nexus_cli.server.requests import Request
    from nexus_core.app.view import CallerView
    from nexus_core.runs.question import RunQuestion
    from nexus_core.runs.stored_run import AnyRun


async def answer(view: CallerView, request: Request) -> dict[str, Any]:
    """Answer a request whose command begins with ``questions.``.

    Raises:
        NexusError: See `CallerQuestions`.
    """
    match request.command:
        case "questions.list":
            return await view.questions.page({name: request.any(name) for name in QUESTION_FILTERS})
        case "questions.of_run":
            asked = await view.questions.of_run(request.text("run_id"))
            return {"questions": [await _shown(view, question) for question in asked]}
        case "questions.show":
            return await _shown(view, await view.questions.get(request.text("run_id"), _number(request)))
        case _:
            value = request.required("answer")
            answered = await view.questions.answer(request.text("run_id"), _number(request), value)
            return answered.to_dict(with_answer=True)


def _number(request: Request) -> int:
    return request.number("number", 0, 1, LARGEST_NUMBER)


async def _shown(view: CallerView, question: RunQuestion) -> dict[str, Any]:
    """Return a question with its answer, and whether the caller may answer it."""
    may_answer = question.is_open and await view.questions.may_answer(question)
    return question.to_dict(with_answer=True) | {"may_answer": may_answer}


async def run_with_questions(view: CallerView, run: AnyRun) -> dict[str, Any]:
    """Return a run with its open questions, if it waits for answers."""
    shown = run.to_dict()
    if shown["status"] != RunStatus.WAITING:
        return shown
    asked = await view.questions.of_run(run.id)
    return shown | {"questions": [question.to_dict() for question in asked if question.is_open]}
