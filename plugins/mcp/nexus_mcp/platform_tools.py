"""`PlatformTools`: runs and sessions as tools, for models whose client shows them tools and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from nexus_core import MalformedRequest, jsontext
from nexus_core.runs.listing import filter_of
from nexus_core.workflows.functions import FunctionWorkflow
from nexus_mcp.calls import LONGEST_WAIT, tool_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nexus_core import Platform
    from nexus_core.app.view import CallerView
    from nexus_core.runs.stored_run import AnyRun

LARGEST_PAGE = 100

Status = Literal["pending", "running", "waiting", "blocked", "completed", "failed", "cancelled"]


class _Actions:
    """The actions of the tools for one caller; the signatures are their schemas."""

    def __init__(self, view: CallerView, wait: float) -> None:
        self._view = view
        self._wait = wait

    async def nexus_runs(
        self,
        action: Literal["list", "show", "steps", "wait", "cancel", "retry", "fork", "questions", "answer"],
        run_id: str | None = None,
        wait: float | None = None,
        workflow: str | None = None,
        status: Status | None = None,
        channel: str | None = None,
        since: str | None = None,
        until: str | None = None,
        text: str | None = None,
        caller: str | None = None,
        before: str | None = None,
        after: int | str = 0,
        limit: int = 20,
        number: int | None = None,
        answer: Any = None,
        from_step: str | int | None = None,
        params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Manage your runs: get a run's result, show its progress, cancel it, start it again, answer its questions.

        Args:
            action: What to do: list runs (newest first), show one, list its steps, wait for its result, cancel it; list
                questions that you may answer or, with a run_id, those of that run; answer a question; retry a run that
                has ended, as a new run with the same parameters; fork one, as a new run that goes on from a step.
            run_id: The run, for every action but list and questions.
            wait: Seconds to wait for the result.
            workflow: List only runs of this tool.
            status: List only runs with this status.
            channel: List only runs that came through this channel.
            since: List only runs accepted at this time or later: ISO 8601, or seconds since the epoch.
            until: List only runs accepted before this time.
            text: List only runs whose id begins or ends with these characters, at least 8.
            caller: List runs of this caller, or * for runs or questions of all callers: for operators.
            before: The `next` of the previous page: list only older runs.
            after: List only steps with higher numbers; for questions, the `next` of the previous page.
            limit: Number of runs, steps or questions to list, at most 100.
            number: For answer: the number of the question. It may be left out where the run has one open question.
            answer: For answer: a value that fits the schema of the question.
            from_step: For fork: the first step that is done again, its name or its number among the recorded steps.
            params: For fork: new parameters in place of those of the run.
        """
        if action in ("list", "questions") and not 1 <= limit <= LARGEST_PAGE:
            raise MalformedRequest(f"/limit: expected a whole number from 1 to {LARGEST_PAGE}.")
        if action == "questions":
            return await self._questions(run_id, caller, after, limit)
        if action == "answer":
            return await self._answer(_needed(run_id, "run_id", action), number, answer)
        if action == "list":
            asked_for = {
                "workflow": workflow, "status": status, "channel": channel, "since": since, "until": until,
                "text": text, "caller": caller, "before": before, "limit": limit,
            }  # fmt: skip
            return await self._view.page(filter_of(asked_for, LARGEST_PAGE))
        if action == "steps":
            page = {"after": after, "limit": limit}
            return await self._view.steps_page(_needed(run_id, "run_id", action), page, LARGEST_PAGE)
        if action in ("retry", "fork"):
            return await self._repeat(_needed(run_id, "run_id", action), action, from_step, params)
        with (await self._view.run(_needed(run_id, "run_id", action))).hold() as run:
            if action == "cancel":
                asked = await self._view.cancel(run)
                return run.to_dict() | {"cancelled": asked}
            if action == "wait":
                await self._wait_for(run, self._wait if wait is None else wait)
            return run.to_dict()

    async def _repeat(
        self, run_id: str, action: str, from_step: str | int | None, params: dict[str, Any] | None
    ) -> dict[str, Any]:
        if action == "retry":
            return (await self._view.repeats.retry(run_id)).to_dict()
        if from_step is None:
            raise MalformedRequest("/from_step: required for fork.")
        return (await self._view.repeats.fork(run_id, from_step, params)).to_dict()

    async def _questions(self, run_id: str | None, caller: str | None, after: int | str, limit: int) -> dict[str, Any]:
        questions = self._view.questions
        if run_id is None:
            return await questions.page({"caller": caller, "after": after or None, "limit": limit})
        found = await questions.of_run(run_id)
        return {"questions": [question.to_dict(with_answer=True) for question in found]}

    async def _answer(self, run_id: str, number: int | None, answer: Any) -> dict[str, Any]:
        questions = self._view.questions
        if number is None:
            open_ones = [question.number for question in await questions.of_run(run_id) if question.is_open]
            if len(open_ones) != 1:
                raise MalformedRequest(f"/number: required: the run has {len(open_ones)} open questions.")
            (number,) = open_ones
        return (await questions.answer(run_id, number, answer)).to_dict()

    async def _wait_for(self, run: AnyRun, seconds: float) -> None:
        if not 0 <= seconds <= LONGEST_WAIT:
            raise MalformedRequest(f"/wait: expected a number of seconds from 0 to {LONGEST_WAIT:g}.")
        with self._view.lease():
            await run.settled(seconds)

    async def nexus_sessions(
        self,
        action: Literal["create", "show", "update", "renew", "remove"],
        session_id: str | None = None,
        state: dict[str, Any] | None = None,
        version: int | None = None,
    ) -> dict[str, Any]:
        """Manage sessions: state that calls share when they name the same session, on every channel.

        Args:
            action: What to do: create a session, show its state, update its state, replace its id, remove it.
            session_id: The session, for every action but create.
            state: For update: members to set; null removes one, others are unchanged.
            version: For update: the expected version; any other is a conflict.
        """
        if action == "create":
            return (await self._view.create_session("mcp")).to_dict()
        named = _needed(session_id, "session_id", action)
        if action == "update":
            if state is None:
                raise MalformedRequest("/state: required for update.")
            return (await self._view.update_session(named, state, version)).to_dict()
        if action == "renew":
            return (await self._view.renew_session(named)).to_dict()
        if action == "remove":
            await self._view.remove_session(named)
            return {"session_id": named, "removed": True}
        return (await self._view.session(named)).to_dict()


def _needed(value: str | None, name: str, action: str) -> str:
    if value is None:
        raise MalformedRequest(f"/{name}: required for {action}.")
    return value


class PlatformTools:
    """The tools of the platform, listed after the workflows. A workflow of the same name replaces one.

    Args:
        platform: The platform.
        wait: Default of the seconds to wait for a run.
    """

    def __init__(self, platform: Platform, wait: float) -> None:
        self._workflows = platform.workflows
        self._wait = wait
        shown = _Actions(None, wait)  # type: ignore[arg-type]  # only its signatures are read
        functions = (shown.nexus_runs, shown.nexus_sessions)
        self._tools = {each.__name__: FunctionWorkflow(each.__name__, each, {}, platform.threads) for each in functions}

    def has(self, name: str) -> bool:
        """Return whether a name is one of these tools, and not that of a workflow."""
        return name in self._tools and self._workflows.find(name) is None

    def input_schema(self, name: str) -> Mapping[str, Any]:
        """Return the schema of a tool's arguments."""
        return self._tools[name].input_schema

    def list(self) -> Sequence[dict[str, Any]]:
        """Return the protocol's ``Tool`` objects."""
        return [
            {"name": name, "description": tool.description, "inputSchema": tool.input_schema}
            for name, tool in self._tools.items()
            if self.has(name)
        ]

    async def call(self, view: CallerView, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of a tool to a caller.

        Raises:
            NexusError: The arguments are invalid, or name something that the caller may not see.
        """
        prepared = self._tools[name].prepare(arguments)
        if prepared.get("workflow") is not None:
            prepared["workflow"] = self._workflows.name_of_tool(prepared["workflow"])
        answer: dict[str, Any] = await getattr(_Actions(view, self._wait), name)(**prepared)
        return answer


def answered(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as the protocol's ``CallToolResult``."""
    text = jsontext.encode(answer)
    return tool_result(text.decode(), jsontext.parse_trusted(text))
