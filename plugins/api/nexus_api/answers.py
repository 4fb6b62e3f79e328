"""``/api/answers/{token}``: a question by its link, for who has nothing but the link.

The token is the authority: it is in no other place than the link, and neither a credential nor a cookie is read here.
So there is nothing that a page of another site could abuse by sending a form (cross-site request forgery): without the
token it can't name a question, and with it, it could answer by itself. For that reason forms are taken whatever their
Origin header says, which is ``null`` for this page's own form, since the page sends no referrer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_toolkit.bodies import decoded
from starlette.responses import HTMLResponse, Response

from nexus_api.answer_form import AnswerForm, fields_of
from nexus_api.answer_page import HEADERS, error_page, question_page, thanks_page
from nexus_api.operations import STRING, WITH_BODY, DescribedRoute, json_content, operation, ref
from nexus_api.questions import ANSWER, answer_in
from nexus_api.translate import encode
from nexus_core import MalformedRequest, NexusError, NotFound, ValidationError
from nexus_core.errors import Conflict
from nexus_core.jsontext import parse_object
from nexus_core.server.asgi import error_headers, read_body
from nexus_core.server.caller import headers_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from nexus_core import Platform
    from nexus_core.app.questions import LinkedQuestion

_FORM = "application/x-www-form-urlencoded"
_PAGE = {"text/html": {"schema": STRING}}


def routes(platform: Platform, below: str) -> Sequence[DescribedRoute]:
    """Return the routes of links.

    Args:
        platform: The platform.
        below: The path that they are below; see `Channel.answers`.
    """

    async def show(request: Request) -> Response:
        linked = await platform.linked_question(request.path_params["token"])
        linked.require_open()
        if _wants_json(request):
            return _json(linked)
        return HTMLResponse(question_page(linked.question, AnswerForm(linked.question.schema)))

    async def answer(request: Request) -> Response:
        linked = await platform.linked_question(request.path_params["token"])
        linked.require_open()
        body = await _body(platform, request)
        if _content_type(request) == _FORM:
            return await _answer_form(request, linked, fields_of(body))
        await linked.answer(answer_in(parse_object(body)))
        return _json(linked) if _wants_json(request) else HTMLResponse(thanks_page(linked.question))

    path = f"{below}/{{token}}"
    return [
        DescribedRoute(path, _sent(show), _described("Show the question of a link.", NotFound, Conflict)),
        DescribedRoute(path, _sent(answer), _described("Answer a question by its link.", NotFound, Conflict), "POST"),
    ]


async def _answer_form(request: Request, linked: LinkedQuestion, sent: Mapping[str, str]) -> Response:
    form = AnswerForm(linked.question.schema)
    value, wrong = form.read(sent)
    if not wrong:
        try:
            await linked.answer(value)
        except ValidationError as exc:
            wrong = {each["pointer"]: each["message"] for each in exc.errors or ()} or {"": exc.message}
            if _wants_json(request):
                raise
        else:
            return _json(linked) if _wants_json(request) else HTMLResponse(thanks_page(linked.question))
    if _wants_json(request):
        errors = [{"pointer": where, "message": what} for where, what in wrong.items()]
        raise ValidationError("; ".join(f"{each['pointer']}: {each['message']}" for each in errors), errors=errors)
    return HTMLResponse(question_page(linked.question, form, sent, wrong), ValidationError.status)


def _sent(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that answers with the headers of links, and with a page where a browser shows errors."""

    async def send(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except NexusError as exc:
            if _wants_json(request):
                response = Response(encode(exc.problem()), exc.status, media_type="application/problem+json")
            else:
                response = HTMLResponse(error_page(exc), exc.status)
            response.raw_headers += error_headers(exc, request.scope)
        response.headers.update(HEADERS)
        return response

    return send


def _json(linked: LinkedQuestion) -> Response:
    return Response(encode(linked.question.to_dict(with_answer=True)), media_type="application/json")


async def _body(platform: Platform, request: Request) -> bytes:
    """Return the body of an answer. It is read only after the link was found to be valid.

    Raises:
        MalformedRequest: It is neither a form nor JSON.
        NexusError: See `decoded`.
    """
    kind = _content_type(request)
    if kind != _FORM and not _is_json(kind):
        raise MalformedRequest(f"The body must be JSON, with Content-Type: application/json, or a form ({_FORM}).")
    body = await read_body(request.receive)
    return decoded(body or b"", headers_of(request.scope), platform.options.max_body_bytes)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _wants_json(request: Request) -> bool:
    """Whether the client is a program: browsers name HTML in every request for a page."""
    accepted = request.headers.get("accept", "")
    return "text/html" not in accepted and ("json" in accepted or _is_json(_content_type(request)))


def _described(summary: str, *errors: type[NexusError]) -> dict[str, Any]:
    """Return an operation that needs no credential and has a page for each response."""
    is_answer = summary.startswith("Answer")
    found = operation(
        "Questions", summary, {200: {"description": "The question.", "content": json_content(ref("Question")) | _PAGE}},
        errors=(*errors, *(WITH_BODY if is_answer else ())), body=ANSWER if is_answer else None,
    )  # fmt: skip
    problems = {"application/problem+json": {"schema": ref("Problem")}} | _PAGE
    for status in found["responses"]:
        if status != "200":
            found["responses"][status] = {"description": "See the error's code.", "content": problems}
    if is_answer:
        found["requestBody"]["content"] |= {_FORM: {"schema": {"type": "object"}}}
    return found | {"security": []}
