"""Tool calls: from the protocol to an `Invocation`, and from its result or error back."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError

from nexus_core import Invocation, MalformedRequest, NexusError, Result, SessionNotFound, WorkflowNotFound, jsontext
from nexus_core.events.event import WORKFLOW_OUTPUT, WORKFLOW_PROGRESS, WORKFLOW_QUESTION
from nexus_core.server.caller import check_length
from nexus_core.text import printable
from nexus_mcp.caller import invocation_of, source_of
from nexus_mcp.tools import SESSION_ARGUMENT, takes_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server import ServerRequestContext
    from mcp.types import CallToolRequestParams
    from starlette.requests import Request

    from nexus_core import Platform, Run
    from nexus_core.runs.question import RunQuestion
    from nexus_core.types.principal import RateLimit
    from nexus_mcp.caller import StdioMessage
    from nexus_mcp.protocol_sessions import ProtocolSession

SESSION_KEY = "nexus/session"
IDEMPOTENCY_KEY = "nexus/idempotency-key"
WAIT_KEY = "nexus/wait"
ERROR_KEY = "nexus/error"
RATE_LIMIT_KEY = "nexus/rate-limit"
"""Names in ``_meta``. Errors are not structured content: clients validate that with the tool's output schema."""

LONGEST_WAIT = 3600.0
"""Largest number of seconds that a caller may wait."""

_TRACE = ("traceparent", "tracestate")


class Calls:
    """Runs workflows for tool calls.

    Args:
        platform: The platform.
        timeout: Time limit of a call in seconds, or None.
        patience: Seconds after which a running call returns its run, or None for never.
        streams: Whether progress is reported to callers that request it.
    """

    def __init__(self, platform: Platform, timeout: float | None, patience: float | None, *, streams: bool) -> None:
        self._streams = streams
        self._platform = platform
        self._timeout = timeout
        self._patience = patience

    async def call(
        self, ctx: ServerRequestContext[Any], params: CallToolRequestParams, own_session: ProtocolSession | None
    ) -> dict[str, Any]:
        """Run a workflow and return the protocol's ``CallToolResult`` object.

        Args:
            ctx: The request.
            params: Its parameters.
            own_session: The session of the connection, for calls that do not name a session.

        Raises:
            MCPError: The tool does not exist. Every other error is a result that the model can read.
        """
        meta: Mapping[str, Any] = (ctx.params or {}).get("_meta") or {}
        try:
            patience = _seconds(meta, self._patience)
            if not self._platform.options.enable_async_execution:
                patience = None
            name = self._platform.workflows.name_of_tool(params.name)
            invocation = self._invocation(name, params.arguments or {}, meta, ctx.request)
            invocation.request_id = None if ctx.request_id is None else str(ctx.request_id)
            reports = ctx if self._streams and "progressToken" in meta else None
            if own_session is None or invocation.session_id is not None or not self._shares(name):
                return await self._answer(invocation, reports, patience)
            return await self._in_own_session(own_session, invocation, reports, patience)
        except WorkflowNotFound as exc:
            raise protocol_error(exc) from None
        except NexusError as exc:
            return failure(exc)

    def _shares(self, name: str) -> bool:
        """Return whether a workflow can use the session of its calls."""
        workflow = self._platform.workflows.find(name)
        return workflow is not None and workflow.uses_context

    async def _in_own_session(
        self, own: ProtocolSession, invocation: Invocation, reports: ServerRequestContext[Any] | None,
        patience: float | None,
    ) -> dict[str, Any]:  # fmt: skip
        for _ in range(2):
            session_id = invocation.session_id = await own.id_for(invocation)
            try:
                reply = await self._answer(invocation, reports, patience)
            except SessionNotFound as exc:
                if session_id is None or exc.run_id is not None:  # the session that the workflow uses
                    raise
                own.forget(session_id)
                continue
            if session_id is not None:
                reply["_meta"] = reply.get("_meta", {}) | {SESSION_KEY: session_id}
            return reply
        raise SessionNotFound("The session of the connection ended right after its creation.")

    async def _answer(
        self, invocation: Invocation, reports: ServerRequestContext[Any] | None, patience: float | None
    ) -> dict[str, Any]:
        if reports is not None:
            outcome = await self._reported(invocation, reports, patience)
        elif patience is None:
            outcome = await self._platform.invoke(invocation)
        else:
            outcome = await self._platform.invoke_within(invocation, patience)
        if isinstance(outcome, Result):
            return _success(outcome, invocation.rate_limit)
        return _goes_on(outcome, invocation.rate_limit)

    async def _reported(
        self, invocation: Invocation, reports: ServerRequestContext[Any], patience: float | None
    ) -> Result | Run:
        """Run a workflow while its progress and the items of its stream are reported."""
        with self._platform.submit(invocation).hold() as run:
            try:
                if await _reported(run, reports, patience):
                    return await self._platform.runs.take_result(run)
                await run.started_or_rejected()  # a refusal by a policy is sent at once
                return await self._platform.runs.take_result(run) if run.done else run
            except BaseException:
                run.abandon()
                raise

    def _invocation(
        self, name: str, arguments: dict[str, Any], meta: Mapping[str, Any], request: Request | StdioMessage | None
    ) -> Invocation:
        session_id = _short(meta, SESSION_KEY)
        if SESSION_ARGUMENT in arguments and takes_session(self._platform.workflows.find(name)):
            session_id = _short(arguments, SESSION_ARGUMENT) or session_id
            arguments = {key: value for key, value in arguments.items() if key != SESSION_ARGUMENT}
        invocation = invocation_of(request, name, arguments)
        invocation.source = source_of(request)
        invocation.timeout = self._timeout
        if "traceparent" in meta:
            invocation.trace = {key: value for key in _TRACE if isinstance(value := meta.get(key), str)}
        invocation.session_id = session_id or invocation.session_id
        if meta.get(IDEMPOTENCY_KEY) is not None:
            invocation.idempotency_key = _short(meta, IDEMPOTENCY_KEY)
        return invocation


async def _reported(run: Run, ctx: ServerRequestContext[Any], patience: float | None) -> bool:
    """Report the progress of a run and the items of its stream. Returns whether it has ended.

    Each report restarts the patience, as it restarts the timeout of clients.
    """
    after, items = 0, 0
    end = None if patience is None else time.monotonic() + patience
    while (fresh := run.events_after(after)) or not run.done:
        for event in fresh:
            after, data = event.number, event.data or {}
            if event.type == WORKFLOW_PROGRESS:
                await ctx.session.report_progress(data["done"], data["total"], data["message"] or None)
            elif event.type == WORKFLOW_OUTPUT:
                items += 1
                await ctx.session.report_progress(items, None, jsontext.encode(data["value"]).decode())
            elif event.type == WORKFLOW_QUESTION and patience is not None:  # the answer may take days
                return False
            else:
                continue
            end = None if patience is None else time.monotonic() + patience
        if not fresh and not await run.changed(None if end is None else max(0.0, end - time.monotonic())):
            return run.done
    return True


def _seconds(meta: Mapping[str, Any], default: float | None) -> float | None:
    """Return the patience that a call requests."""
    value = meta.get(WAIT_KEY)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LONGEST_WAIT:
        raise MalformedRequest(f"{WAIT_KEY} must be a number of seconds from 0 to {LONGEST_WAIT:g}.")
    return float(value)


def _short(members: Mapping[str, Any], key: str) -> str | None:
    value = members.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedRequest(f"{key} must be a string.")
    return None if value is None else check_length(key, value)


def _success(result: Result, limit: RateLimit | None) -> dict[str, Any]:
    return tool_result(result.json.decode(), jsontext.parse_trusted(result.reply()), limit)


def _goes_on(run: Run, limit: RateLimit | None) -> dict[str, Any]:
    """Return the answer to a call whose run goes on: what to call next, in words and in the structured content."""
    state = "still running"
    shown: dict[str, Any] = {"run_id": run.id, "status": str(run.status), "workflow": run.workflow}
    if run.questions:
        shown["questions"] = [question.to_dict() for question in run.questions]
        state = "waiting for an answer. " + " ".join(_told(question) for question in run.questions)
    text = (
        f"The run {run.id} is {state}{'' if run.questions else '.'} For its result, call the tool nexus_runs with "
        f"action wait and this run_id, or read nexus://runs/{run.id}."
    )
    return tool_result(text, shown, limit)


def _told(question: RunQuestion) -> str:
    """Return how a question is answered, for a model."""
    schema = jsontext.encode(dict(question.schema)).decode()
    whom = "" if question.to == "caller" else f" It is for {question.to} to answer."
    return (
        f"Question {question.number}: {printable(question.text)}{whom} Ask your user, then call the tool nexus_runs "
        f"with action answer, this run_id, number {question.number} and an answer that fits this schema: {schema}"
    )


def tool_result(text: str, structured: Any, limit: RateLimit | None = None) -> dict[str, Any]:
    """Return the ``CallToolResult`` of a success, with the rate limit if there is one."""
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": text}],
        "structuredContent": structured,
        "isError": False,
        "resultType": "complete",
    }
    if limit is not None:
        result["_meta"] = {RATE_LIMIT_KEY: asdict(limit)}
    return result


def failure(exc: NexusError) -> dict[str, Any]:
    """Return an error as a result that the model can read: what an event handler has put in its place, if it has."""
    text = " ".join(exc.message.split())
    if exc.run_id is not None:  # models, and many clients, see the text alone
        text += f" (run {exc.run_id})"
    if exc.reply is not None:
        text = exc.reply if isinstance(exc.reply, str) else jsontext.encode(exc.reply).decode()
    return {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "resultType": "complete",
        "_meta": {ERROR_KEY: exc.problem()},
    }


def protocol_error(exc: NexusError) -> MCPError:
    """Return an error as a JSON-RPC error, with the problem details as its data."""
    return MCPError(exc.jsonrpc_code, exc.message, data=exc.problem())
