"""``/api/questions`` and ``/api/runs/{id}/questions``: what runs ask, and the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_api.operations import STRING, WITH_BODY, DescribedRoute, operation, query, ref
from nexus_api.operations import json_answer as described
from nexus_api.translate import caller_of_request, read_object, view_of
from nexus_api.workflows import json_answer
from nexus_core import MalformedRequest, NotFound
from nexus_core.errors import Conflict, QuestionNotFound
from nexus_core.runs.listing import LARGEST_PAGE, QUESTION_FILTERS
from nexus_core.server.caller import headers_of
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from nexus_core import Platform

_SCHEMAS = {"limit": {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}}
_QUESTION = described("The question.", ref("Question"))
_LIST = operation(
    "Questions", "List the open questions that you may answer, oldest first.",
    {200: described("The questions, and `next` where further ones may follow.", ref("Questions"))},
    *(query(name, _SCHEMAS.get(name, STRING), meaning) for name, meaning in QUESTION_FILTERS.items()),
)  # fmt: skip
_OF_RUN = operation(
    "Questions", "List what a run has asked, with the answers.",
    {200: described("The questions, in order.", ref("Questions"))}, errors=(NotFound,),
)  # fmt: skip
_SHOW = operation("Questions", "Show a question.", {200: _QUESTION}, errors=(NotFound,))
ANSWER = {
    "type": "object",
    "properties": {"answer": {"description": "A value that fits the question's schema."}},
    "required": ["answer"],
    "additionalProperties": False,
}
"""The body of an answer."""

_ANSWER = operation(
    "Questions", "Answer a question.", {200: _QUESTION}, errors=(NotFound, Conflict, *WITH_BODY), body=ANSWER
)


def routes(platform: Platform) -> Sequence[DescribedRoute]:
    """Return the routes for callers."""

    async def list_open(request: Request) -> Response:
        asked = {name: request.query_params.get(name) for name in QUESTION_FILTERS}
        view = await view_of(platform, request.scope)
        return json_answer(await view.questions.page(asked), view)

    async def list_of_run(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        found = await view.questions.of_run(request.path_params["run_id"])
        return json_answer({"questions": [question.to_dict(with_answer=True) for question in found]}, view)

    async def show(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        question = await view.questions.get(*_place(request))
        return json_answer(question.to_dict(with_answer=True), view)

    async def answer(request: Request) -> Response:
        caller = caller_of_request(request.scope, headers_of(request.scope))
        body = await read_object(platform, caller, request.receive)
        view = await platform.view(caller)
        value = answer_in(body[1] if body else {})
        question = await view.questions.answer(*_place(request), value)
        return json_answer(question.to_dict(with_answer=True), view)

    return [
        DescribedRoute("/api/questions", list_open, _LIST),
        DescribedRoute("/api/runs/{run_id}/questions", list_of_run, _OF_RUN),
        DescribedRoute("/api/runs/{run_id}/questions/{number}", show, _SHOW),
        DescribedRoute("/api/runs/{run_id}/questions/{number}", answer, _ANSWER, "POST"),
    ]


def answer_in(body: Mapping[str, Any]) -> Any:
    """Return the answer of a body: ``{"answer": VALUE}``.

    Raises:
        MalformedRequest: It has no answer, or more than that.
    """
    if unknown := sorted(body.keys() - {"answer"}):
        raise MalformedRequest(f"/{unknown[0][:100]}: unknown name.")
    if "answer" not in body:
        raise MalformedRequest("/answer: missing. It is the value that answers the question; null is one.")
    return body["answer"]


def _place(request: Request) -> tuple[str, int]:
    """Return the run and the number of the question that a path names.

    Raises:
        QuestionNotFound: It is no number.
    """
    number = request.path_params["number"]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise QuestionNotFound(f"There is no question {printable(number, 20)}: questions have numbers from 1.")
    return request.path_params["run_id"], int(number)
