"""Tool calls: from the protocol to an `Invocation`, and from its result or error back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError

from nexus_core import Invocation, MalformedRequest, NexusError, Result, WorkflowNotFound, jsontext
from nexus_core.caller import check_length
from nexus_core.events import WORKFLOW_OUTPUT, WORKFLOW_PROGRESS
from nexus_mcp.caller import invocation_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server import ServerRequestContext
    from mcp.types import CallToolRequestParams
    from starlette.requests import Request

    from nexus_core import Nexus
    from nexus_core.invocation import RateLimit

SESSION_KEY = "nexus/session"
IDEMPOTENCY_KEY = "nexus/idempotency-key"
ERROR_KEY = "nexus/error"
RATE_LIMIT_KEY = "nexus/rate-limit"
"""Names in ``_meta``. Errors are not structured content: clients hold that against the tool's output schema."""

_TRACE = ("traceparent", "tracestate")


class Calls:
    """Runs workflows for tool calls.

    Args:
        nexus: Whose workflows.
        timeout: Seconds a call may take, or None.
    """

    def __init__(self, nexus: Nexus, timeout: float | None) -> None:
        self._nexus = nexus
        self._timeout = timeout

    async def call(self, ctx: ServerRequestContext[Any], params: CallToolRequestParams) -> dict[str, Any]:
        """Run a workflow and return the protocol's ``CallToolResult`` object.

        Raises:
            MCPError: There is no such tool. Every other error is a result that the model can read.
        """
        meta: Mapping[str, Any] = (ctx.params or {}).get("_meta") or {}
        try:
            invocation = self._invocation(params.name, params.arguments or {}, meta, ctx.request)
            follows = "progressToken" in meta
            result = await (self._followed(invocation, ctx) if follows else self._nexus.invoke(invocation))
            return _success(result, invocation.rate_limit)
        except WorkflowNotFound as exc:
            raise protocol_error(exc) from None
        except NexusError as exc:
            return _failure(exc)

    def _invocation(
        self, name: str, arguments: dict[str, Any], meta: Mapping[str, Any], request: Request | None
    ) -> Invocation:
        invocation = invocation_of(request, name, arguments)
        invocation.timeout = self._timeout
        if "traceparent" in meta:
            invocation.trace = {key: value for key in _TRACE if isinstance(value := meta.get(key), str)}
        invocation.session_id = _short(meta, SESSION_KEY) or invocation.session_id
        invocation.idempotency_key = _short(meta, IDEMPOTENCY_KEY) or invocation.idempotency_key
        return invocation

    async def _followed(self, invocation: Invocation, ctx: ServerRequestContext[Any]) -> Result:
        """Run a workflow and report its progress and the items of its stream as they come."""
        run = self._nexus.submit(invocation)
        done = 0.0
        try:
            async for event in run.follow():
                data = event.data or {}
                if event.type == WORKFLOW_PROGRESS:
                    done = data["done"]
                    await ctx.session.report_progress(done, data["total"], data["message"] or None)
                elif event.type == WORKFLOW_OUTPUT:
                    done += 1
                    await ctx.session.report_progress(done, None, jsontext.encode(data["value"]).decode())
            return await run.outcome()
        finally:
            run.abandon()


def _short(meta: Mapping[str, Any], key: str) -> str | None:
    value = meta.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedRequest(f"{key} must be a string.")
    return None if value is None else check_length(key, value)


def _success(result: Result, limit: RateLimit | None) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "content": [{"type": "text", "text": result.json.decode()}],
        "structuredContent": jsontext.parse_trusted(result.reply()),
        "isError": False,
        "resultType": "complete",
    }
    if limit is not None:
        reply["_meta"] = {RATE_LIMIT_KEY: asdict(limit)}
    return reply


def _failure(exc: NexusError) -> dict[str, Any]:
    text = " ".join(exc.message.split())
    if exc.run_id is not None:  # models, and many clients, see the text alone
        text += f" (run {exc.run_id})"
    return {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "resultType": "complete",
        "_meta": {ERROR_KEY: exc.problem()},
    }


def protocol_error(exc: NexusError) -> MCPError:
    """Return an error as a JSON-RPC error, with the problem details as its data."""
    return MCPError(exc.jsonrpc_code, exc.message, data=exc.problem())
