"""What travels through the pipeline: an `Invocation` on the way in, a `Result` on the way out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexus_core.state.limits import user_payer
from nexus_core.types.addresses import network_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.run import Run
    from nexus_core.state.sessions import Session
    from nexus_core.types.principal import Principal, RateLimit, Validity
    from nexus_core.workflows.workflow import Workflow


@dataclass(slots=True, eq=False)
class Invocation:
    """One call of a workflow, as a channel understood it. Interceptors read and complete it.

    Attributes:
        name: The workflow's name as the caller gave it. It need not exist.
        params: The parameters: raw from the channel; after the resolve stage what `Workflow.prepare` made of them.
        validated_params: The JSON parameters that fit the schema; set by the resolve stage.
        channel: ``api``, ``cli``, ``mcp``, or ``python`` for a call from code.
        credentials: What the channel found, for the authenticate stage: ``{"authorization": "Bearer ..."}``.
        principal: The caller; set by the authenticate stage.
        session_id: The session the caller named.
        session: That session; set by the session stage.
        idempotency_key: The caller's key for safe repeats.
        timeout: Seconds the caller gives the run; the workflow's own limit holds when it is shorter.
        trace: W3C trace context from the caller: ``{"traceparent": ..., "tracestate": ...}``.
        client_address: The caller's network address, where there is one.
        headers: The request's headers, names in lower case, for stages that read some; None without HTTP.
        query: The query of the request's address, where there is one.
        source: The JSON text that the parameters were read from, and the keys that lead to them: for parameters that
            are more exact than a float. Dropped by the resolve stage.
        request_id: What the protocol calls the request, where it has a name for it (JSON-RPC).
        rate_limit: What is left of the caller's budget; set by the limit stage.
        validity: How long the caller's credential is good; set by the authenticate stage.
        workflow: The workflow found under ``name``, or None.
        run: The run; set by `Nexus.invoke`.
    """

    name: str
    params: Any
    channel: str = "python"
    credentials: Mapping[str, str] | None = None
    principal: Principal | None = None
    session_id: str | None = None
    session: Session | None = None
    idempotency_key: str | None = None
    timeout: float | None = None
    trace: Mapping[str, str] | None = None
    client_address: str | None = None
    headers: Mapping[bytes, bytes] | None = None
    query: bytes = b""
    source: tuple[bytes, tuple[str, ...]] | None = None
    request_id: str | None = None
    rate_limit: RateLimit | None = None
    validity: Validity | None = None
    validated_params: dict[str, Any] = field(default_factory=dict)
    workflow: Workflow | None = None
    run: Run = None  # type: ignore[assignment]  # Nexus.invoke sets it before any interceptor sees the invocation

    @property
    def owner(self) -> str | None:
        """The `Principal.identity` that what the call makes belongs to; None where authentication is off."""
        return self.principal.identity if self.principal else None

    @property
    def payer(self) -> str:
        """Whose limits count for what the call stores: its principal, else its address; "" where neither is known."""
        if self.principal is not None:
            return user_payer(self.principal.identity)
        return f"address {network_of(self.client_address)}" if self.client_address else ""

    def begin_run(self, runs: RunHistory) -> None:
        """Begin the call's run, unless it has begun."""
        payer = self.payer if self.run.keeps_result else ""
        runs.begin(self.run, self.principal, self.session.id if self.session else None, payer)
