"""What travels through the pipeline: a `Caller` or its `Invocation` on the way in, a `Result` on the way out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from nexus_core.state.limits import user_payer
from nexus_core.types.addresses import network_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.run import Run
    from nexus_core.runs.work import Beginning
    from nexus_core.state.sessions import Session
    from nexus_core.types.principal import Principal, RateLimit, Validity
    from nexus_core.workflows.workflow import Workflow


@dataclass(slots=True, eq=False)
class Caller:
    """Who sends a request, as a channel received it. The stages up to `Stage.LIMIT` complete it.

    A request that reads (a list, a description, a stream of events) has a caller alone; a call of a workflow is an
    `Invocation`, which is a caller too.

    Attributes:
        channel: ``api``, ``cli``, ``mcp``, or ``python`` for a call from code.
        credentials: What the channel found, for the authenticate stage: ``{"authorization": "Bearer ..."}``.
        principal: The authenticated caller; set by the authenticate stage.
        session_id: The session the caller named.
        trace: W3C trace context from the caller: ``{"traceparent": ..., "tracestate": ...}``.
        client_address: The caller's network address, where there is one.
        headers: The request's headers as bytes, names in lower case: ``headers.get(b"user-agent")``. None where the
            request did not come over HTTP: calls from code, MCP over stdio, the command line without ``--connect`` or
            ``--header``.
        query: The query of the request's address, where there is one.
        rate_limit: What is left of the caller's budget; set by the limit stage.
        validity: How long the caller's credential is good; set by the authenticate stage.
    """

    channel: str = "python"
    credentials: Mapping[str, str] | None = field(default=None, repr=False)
    principal: Principal | None = None
    session_id: str | None = field(default=None, repr=False)
    trace: Mapping[str, str] | None = None
    client_address: str | None = None
    headers: Mapping[bytes, bytes] | None = field(default=None, repr=False)
    query: bytes = field(default=b"", repr=False)
    rate_limit: RateLimit | None = None
    validity: Validity | None = None

    @property
    def owner(self) -> str | None:
        """The `Principal.identity` that what the caller makes belongs to; None where authentication is off."""
        return self.principal.identity if self.principal else None

    @property
    def payer(self) -> str:
        """Whose limits count for what the caller stores: its principal, else its address; "" where both are unknown."""
        if self.principal is not None:
            return user_payer(self.principal.identity)
        return f"address {network_of(self.client_address)}" if self.client_address else ""


class Invocation(Caller):
    """One call of a workflow, as a channel understood it. Interceptors read and complete it.

    Attributes:
        name: The workflow's name as the caller gave it. It need not exist.
        params: The parameters: raw from the channel; after the resolve stage what `Workflow.prepare` made of them.
        validated_params: The JSON parameters that fit the schema; set by the resolve stage.
        session: The session that the caller named; set by the session stage.
        idempotency_key: The caller's key for safe repeats.
        timeout: Seconds the caller gives the run; the workflow's own limit holds when it is shorter.
        source: The JSON text that the parameters were read from, and the keys that lead to them: for parameters that
            are more exact than a float. Dropped by the resolve stage.
        request_id: What the protocol calls the request, where it has a name for it (JSON-RPC).
        workflow: The workflow found under ``name``, or None.
        run: The run; set by `Nexus.invoke`.
        parent: The run that this call repeats (`CallerRuns.retry`), or None.
        beginning: What its journal begins with, where that is a part of its parent's.
        run_id: The id that the run gets; None for a random one. Where the run store has such a run, the call is refused
            with `Conflict`.
        queued: Seconds that the call has waited for others of its key; they count against its time limit.

    The other attributes are those of `Caller`, and keywords of the constructor as well.
    """

    __slots__ = (
        "beginning", "idempotency_key", "name", "params", "parent", "queued", "request_id", "run", "run_id", "session",
        "source", "timeout", "validated_params", "workflow",
    )  # fmt: skip

    # Not generated: a dataclass would take what identifies the caller first.
    def __init__(
        self,
        name: str,
        params: Any,
        channel: str = "python",
        credentials: Mapping[str, str] | None = None,
        principal: Principal | None = None,
        session_id: str | None = None,
        session: Session | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        trace: Mapping[str, str] | None = None,
        client_address: str | None = None,
        headers: Mapping[bytes, bytes] | None = None,
        query: bytes = b"",
        source: tuple[bytes, tuple[str, ...]] | None = None,
        request_id: str | None = None,
        rate_limit: RateLimit | None = None,
        validity: Validity | None = None,
        validated_params: dict[str, Any] | None = None,
        workflow: Workflow | None = None,
        run: Run | None = None,
        run_id: str | None = None,
    ) -> None:
        self.channel = channel
        self.credentials = credentials
        self.principal = principal
        self.session_id = session_id
        self.trace = trace
        self.client_address = client_address
        self.headers = headers
        self.query = query
        self.rate_limit = rate_limit
        self.validity = validity
        self.name = name
        self.params = params
        self.session = session
        self.idempotency_key = idempotency_key
        self.timeout = timeout
        self.source = source
        self.request_id = request_id
        self.queued = 0.0
        self.parent: str | None = None
        self.beginning: Beginning | None = None
        self.run_id = run_id
        self.validated_params: dict[str, Any] = {} if validated_params is None else validated_params
        self.workflow = workflow
        self.run: Run = run  # type: ignore[assignment]  # Nexus.invoke sets it before any interceptor gets this

    def __repr__(self) -> str:
        return f"Invocation({self.name!r}, channel={self.channel!r}, principal={self.principal!r})"

    @classmethod
    def of(cls, caller: Caller, name: str, params: Any, idempotency_key: str | None = None) -> Self:
        """Return a call of a caller's, with all that is known of the caller."""
        return cls(
            name,
            params,
            caller.channel,
            caller.credentials,
            caller.principal,
            caller.session_id,
            None,
            idempotency_key,
            None,
            caller.trace,
            caller.client_address,
            caller.headers,
            caller.query,
            rate_limit=caller.rate_limit,
            validity=caller.validity,
        )

    def begin_run(self, runs: RunHistory) -> None:
        """Begin the call's run, unless it has begun."""
        payer = self.payer if self.run.keeps_result else ""
        runs.begin(self.run, self.principal, self.session.id if self.session else None, payer)

    def queue_run(self, runs: RunHistory, position: int) -> None:
        """Note that the call's run waits for others, and how many are before it."""
        payer = self.payer if self.run.keeps_result else ""
        runs.queue(self.run, self.principal, self.session.id if self.session else None, payer, position)
