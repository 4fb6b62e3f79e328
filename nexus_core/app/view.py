"""`CallerView`: what one caller may see of a platform."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nexus_core.app.questions import CallerQuestions
from nexus_core.app.repeats import CallerRepeats
from nexus_core.errors import Conflict, PermissionDenied, RunNotFound
from nexus_core.events.event import WORKFLOW_REGISTERED, WORKFLOW_UNREGISTERED, ChannelEvent
from nexus_core.pipeline.authorization import Authorizer, missing_permissions
from nexus_core.runs.listing import EVERYONE, LARGEST_PAGE, step_range
from nexus_core.runs.record import RunFilter
from nexus_core.runs.run import Run
from nexus_core.runs.status import RunStatus
from nexus_core.state.limits import current_payer
from nexus_core.workflows.registry import unknown_workflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from nexus_core.app.state import PlatformState, Running
    from nexus_core.events.log import Follower
    from nexus_core.pipeline.credentials import CredentialWatch, Lease
    from nexus_core.pipeline.invocation import Caller, Invocation
    from nexus_core.runs.record import RunStep
    from nexus_core.runs.stored_run import AnyRun
    from nexus_core.state.sessions import Session, SessionStore
    from nexus_core.workflows.workflow import Workflow


OPERATE = "nexus.operate"
"""The permission to see the runs of all callers, and to prune them."""


class CallerView:
    """What one caller may see: the same on every channel.

    Another's runs and sessions, and workflows it may not run, are not there for it. Made by `Nexus.view`.

    Attributes:
        principal: The caller, or None where authentication is off.
        rate_limit: What is left of its budget, where calls are limited.
        questions: The questions that it may answer.
        repeats: Repeats its runs, from their beginning or from a step.
    """

    def __init__(
        self,
        state: PlatformState,
        start: Callable[[], Awaitable[Running]],
        credentials: CredentialWatch,
        caller: Caller,
        authorizers: Sequence[Authorizer],
        submit: Callable[[Invocation], Run],
    ) -> None:
        self._state = state
        self._start = start
        self._credentials = credentials
        self._authorizers = authorizers
        self.principal = caller.principal
        self.rate_limit = caller.rate_limit
        self._owner = caller.owner
        self._payer = caller.payer
        self._caller = caller
        self.questions = CallerQuestions(start, caller.principal, authorizers, self.require, self.run, OPERATE)
        self.repeats = CallerRepeats(start, state.options, caller, self.run, self.runs, self.cancel, submit)

    def lease(self) -> Lease:
        """Return a lease of the caller's credential, to hold while something goes on that it has opened.

        It is a context manager: when the credential ends, it cancels its block and raises `CredentialEnded`.
        """
        return self._credentials.lease(self._caller)

    async def require(self, *permissions: str) -> None:
        """Make sure that the caller has permissions. Without an authorizer, every caller has all.

        Raises:
            PermissionDenied: It lacks one.
        """
        missing = await missing_permissions(self._authorizers, self.principal, frozenset(permissions))
        if missing:
            names = ", ".join(sorted(missing))
            raise PermissionDenied(
                f"This needs the permission {names}.", details={"missing_permissions": sorted(missing)}
            )

    async def workflows(self) -> list[Workflow]:
        """Return the workflows that the caller may run, by name."""
        registered = self._state.workflows
        return await self.permitted([registered.get(name) for name in registered.names()])

    async def permitted(self, every: list[Workflow]) -> list[Workflow]:
        """Return those of the workflows that the caller may run."""
        if not self._authorizers:
            return every
        asked = frozenset[str]().union(*(workflow.required_permissions for workflow in every))
        missing = await missing_permissions(self._authorizers, self.principal, asked) if asked else asked
        return [workflow for workflow in every if missing.isdisjoint(workflow.required_permissions)]

    async def workflow(self, name: str) -> Workflow:
        """Return a workflow that the caller may run.

        Raises:
            WorkflowNotFound: It does not exist; the message has the nearest name that the caller may know.
        """
        found = self._state.workflows.find(name)
        if found is not None:
            required = found.required_permissions if self._authorizers else frozenset[str]()
            if not required or not await missing_permissions(self._authorizers, self.principal, required):
                return found
        raise unknown_workflow(name, [workflow.name for workflow in await self.workflows()])

    async def workflow_of_tool(self, name: str) -> Workflow:
        """Return a workflow that the caller may run, by its name or its tool name; see `workflow`."""
        return await self.workflow(self._state.workflows.name_of_tool(name))

    async def run(self, run_id: str) -> AnyRun:
        """Return one of the caller's runs, whichever process works on it. Operators get those of others too.

        Raises:
            RunNotFound: No such id, or it is no longer kept, or another's.
            BackendUnavailable: It is no run of this process, and the run store does not answer.
        """
        runs = (await self._start()).runs
        try:
            return await runs.get(run_id, self._owner)
        except RunNotFound:
            if not await self._is_operator():
                raise
            return await runs.get(run_id, None, of_everyone=True)

    async def _is_operator(self) -> bool:
        """Whether the caller may see the runs of others. Where nothing grants permissions, nobody may."""
        asked = frozenset({OPERATE})
        return bool(self._authorizers) and not await missing_permissions(self._authorizers, self.principal, asked)

    async def runs(self, wanted: RunFilter | None = None) -> list[AnyRun]:
        """Return the caller's runs that a filter shows, newest first.

        Args:
            wanted: The filter. Operators may name another ``owner``, or `EVERYONE`. None for the latest runs.

        Raises:
            PermissionDenied: It names another owner, and the caller is no operator.
            BackendUnavailable: The run store does not answer.
        """
        wanted = wanted or RunFilter()
        asked = wanted.owner
        if asked is None or asked == self._owner:
            return await (await self._start()).runs.find(replace(wanted, owner=self._owner), self._owner)
        if not await self._is_operator():
            raise PermissionDenied(
                f"caller: the runs of others need the permission {OPERATE}.", details={"missing_permissions": [OPERATE]}
            )
        runs = (await self._start()).runs
        if asked == EVERYONE:
            return await runs.find(replace(wanted, owner=None), None, of_everyone=True)
        return await runs.find(wanted, asked)

    async def page(self, wanted: RunFilter) -> dict[str, Any]:
        """Return a page of runs as channels show it, with ``next`` where older ones may follow; see `runs`.

        Where the filter names an owner, each run has its ``caller``.

        Raises:
            PermissionDenied: The filter names another owner, and the caller is no operator.
            BackendUnavailable: The run store does not answer.
        """
        found = await self.runs(wanted)
        page: dict[str, Any] = {"runs": [run.to_dict(with_result=False) for run in found]}
        if wanted.owner is not None:
            page["runs"] = [shown | {"caller": run.owner} for shown, run in zip(page["runs"], found, strict=True)]
        return page | {"next": str(found[-1].cursor)} if len(found) == wanted.limit else page

    async def steps(self, run_id: str, after: int = 0, limit: int = LARGEST_PAGE) -> list[RunStep]:
        """Return the steps of one of the caller's runs, in the order in which they began.

        Args:
            run_id: The run.
            after: Only steps with higher numbers.
            limit: How many at most.

        Raises:
            RunNotFound: No such id, or it is no longer kept, or another's.
            BackendUnavailable: The run store has them, and does not answer.
        """
        runs = (await self._start()).runs
        try:
            return await runs.steps(run_id, self._owner, after, limit)
        except RunNotFound:
            if not await self._is_operator():
                raise
            return await runs.steps(run_id, None, after, limit, of_everyone=True)

    async def steps_page(self, run_id: str, asked: Mapping[str, Any], largest: int = LARGEST_PAGE) -> dict[str, Any]:
        """Return a page of a run's steps as channels show it, with ``next`` where further ones may follow.

        Args:
            run_id: The run.
            asked: ``after`` and ``limit`` of the request, as text or as JSON values. None is the default.
            largest: The largest page of the channel.

        Raises:
            MalformedRequest: A value is invalid.
            RunNotFound, BackendUnavailable: See `steps`.
        """
        after, limit = step_range(asked, largest)
        found = await self.steps(run_id, after, limit)
        page: dict[str, Any] = {"run_id": run_id, "steps": [step.to_dict() for step in found]}
        return page | {"next": found[-1].number} if len(found) == limit else page

    async def cancel(self, run: AnyRun) -> bool:
        """Ask a run of the caller's to stop. Returns False when it has ended already.

        Raises:
            PermissionDenied: It is another's.
            BackendUnavailable: Another process works on it, and the run store does not answer.
        """
        if run.owner != self._owner:
            raise PermissionDenied("A run is cancelled by its own caller only.")
        durable = (await self._start()).durable
        if durable is not None and run.status == RunStatus.BLOCKED:  # no process works on it that would hear of it
            await durable.cancel(run.id)
            return True
        return run.cancel() if isinstance(run, Run) else await run.cancel()

    async def prune(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Remove the runs that are beyond the limits of the run store, as the platform does by itself every minute.

        Args:
            dry_run: Whether to count only what would be removed.

        Returns:
            ``runs`` and ``bytes``, and whether nothing is left that is beyond the limits (``complete``).

        Raises:
            PermissionDenied: The caller is no operator.
            Conflict: Runs are kept in this process alone.
            BackendUnavailable: The run store does not answer.
        """
        await self.require(OPERATE)
        recorder = (await self._start()).recorder
        if recorder is None:
            raise Conflict("There is no run store to prune: run_store is memory, where run_history bounds the runs.")
        pruned = await recorder.prune(dry_run=dry_run)
        return {"runs": pruned.runs, "bytes": pruned.bytes, "complete": pruned.is_complete, "dry_run": dry_run}

    async def events(self, after: str | None = None, *, session_id: str | None = None) -> Follower:
        """Follow what happens to the caller's runs and sessions, and to the workflows that it may run.

        Args:
            after: The `ChannelEvent.id` of the last event that it has seen; None for from now on.
            session_id: Only events of this session.

        Raises:
            MalformedRequest: The id has not the form of one.
            SessionNotFound: There is no such session, or it is another's.
            BackendUnavailable: What keeps the events does not answer.
        """
        if session_id is None:
            return await self._state.event_log.follow(after, self._sees)
        await self.session(session_id)
        return await self._state.event_log.follow(
            after, lambda event: event.session_id == session_id and self._sees(event)
        )

    def _sees(self, event: ChannelEvent) -> bool:
        if event.is_public:
            return True
        if event.type in (WORKFLOW_REGISTERED, WORKFLOW_UNREGISTERED):
            return not self._authorizers  # else somebody would have to be asked first, for what a listing tells as well
        return event.owner == self._owner

    async def _sessions(self) -> SessionStore:
        return (await self._start()).sessions

    async def session(self, session_id: str) -> Session:
        """Return one of the caller's sessions.

        Raises:
            SessionNotFound: No such id, or it is another's.
        """
        return await (await self._sessions()).get(session_id, self._owner)

    async def create_session(self, channel: str) -> Session:
        """Return a new session of the caller's.

        Args:
            channel: Where it comes from.

        Raises:
            StateLimitReached: The caller has as many sessions as it may.
        """
        store = await self._sessions()
        token = current_payer.set(self._payer)
        try:
            return await store.create(channel, self._owner)
        finally:
            current_payer.reset(token)

    async def update_session(self, session_id: str, changes: Mapping[str, Any], version: int | None = None) -> Session:
        """Change the state of one of the caller's sessions; see `SessionStore.update`."""
        return await (await self._sessions()).update(session_id, self._owner, changes, version)

    async def renew_session(self, session_id: str) -> Session:
        """Replace the id of one of the caller's sessions, as is done after a login; see `SessionStore.renew`.

        Raises:
            SessionNotFound: No such id, or it is another's.
        """
        return await (await self._sessions()).renew(session_id, self._owner)

    async def remove_session(self, session_id: str) -> None:
        """Forget one of the caller's sessions, on every channel.

        Raises:
            SessionNotFound: No such id, or it is another's.
        """
        await (await self._sessions()).remove(session_id, self._owner)
