"""What travels through the pipeline: an `Invocation` on the way in, a `Result` on the way out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.credentials import Validity
    from nexus_core.runs import Run
    from nexus_core.sessions import Session
    from nexus_core.workflow import Workflow


@dataclass(slots=True, frozen=True)
class Principal:
    """Who calls, once authenticated.

    Attributes:
        user_id: Unique within its tenant.
        permissions: What it may do, such as ``data.read``; an `Authorizer` interprets them.
        scopes: What the credential that it came with allows, where that is less.
        tenant_id: The tenant it belongs to, or None.
        claims: Whatever else is known of it.
        identity: Tells it from every other principal: what belongs to it is kept under this.
    """

    user_id: str
    permissions: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    tenant_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    identity: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the identity: no tenant and user together look like another tenant's user."""
        tenant = "" if self.tenant_id is None else quote(self.tenant_id, safe="@") + "/"
        object.__setattr__(self, "identity", tenant + quote(self.user_id, safe="@|:"))


@dataclass(slots=True, frozen=True)
class RateLimit:
    """How much of a caller's budget is left after its call.

    Attributes:
        limit: Calls that a window may have.
        window: The window's length in seconds.
        remaining: Calls that are left.
        reset: Seconds until there are more.
    """

    limit: int
    window: float
    remaining: int
    reset: float


@dataclass(slots=True, eq=False)
class Invocation:
    """One call of a workflow, as a channel understood it. Interceptors read and complete it.

    Attributes:
        name: The workflow's name as the caller gave it. It need not exist.
        params: The parameters: raw from the channel; after the resolve stage what `Workflow.prepare` made of them.
        given: The JSON parameters that fit the schema; set by the resolve stage.
        channel: ``api``, ``cli``, ``mcp``, or ``python`` for a call from code.
        credentials: What the channel found, for the authenticate stage: ``{"authorization": "Bearer ..."}``.
        principal: Who calls; set by the authenticate stage.
        session_id: The session the caller named.
        session: That session; set by the session stage.
        idempotency_key: The caller's key for safe repeats.
        timeout: Seconds the caller gives the run; the workflow's own limit holds when it is shorter.
        trace: W3C trace context from the caller: ``{"traceparent": ..., "tracestate": ...}``.
        client_address: The caller's network address, where there is one.
        headers: The request's headers, names in lower case, for stages that know some; None where there are none.
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
    given: dict[str, Any] = field(default_factory=dict)
    workflow: Workflow | None = None
    run: Run = None  # type: ignore[assignment]  # Nexus.invoke sets it before any interceptor sees the invocation

    @property
    def owner(self) -> str | None:
        """The `Principal.identity` that what the call makes belongs to; None where nobody is asked."""
        return self.principal.identity if self.principal else None


_decode = msgspec.json.Decoder().decode


class Result:
    """What a workflow gave back. It is kept as JSON text: immutable, and the same on each channel.

    Attributes:
        json: The value as JSON text.
        run_id: The run that gave it.
        duration: Seconds the execution took.
        cached: Whether it came from the cache.
        replayed: Whether it is the stored answer to an earlier call with the same idempotency key.
    """

    __slots__ = ("cached", "duration", "json", "replayed", "run_id")

    def __init__(
        self, json: bytes, run_id: str, duration: float = 0.0, *, cached: bool = False, replayed: bool = False
    ) -> None:
        self.json = json
        self.run_id = run_id
        self.duration = duration
        self.cached = cached
        self.replayed = replayed

    @property
    def value(self) -> Any:
        """The value in JSON's types, decoded anew at each access: changing it changes no other caller's."""
        return _decode(self.json)

    def marks(self) -> dict[str, bool]:
        """Return what there is to tell of where it comes from: ``cached`` and ``replayed``, where they are true."""
        return {name: True for name in ("cached", "replayed") if getattr(self, name)}

    def reply(self) -> bytes:
        """Return the reply that REST, the command line and MCP share: ``{"result": ..., "run_id": ...}``."""
        marks = b""
        if self.cached:
            marks += b',"cached":true'
        if self.replayed:
            marks += b',"replayed":true'
        return b'{"result":%b,"run_id":"%b"%b}' % (self.json, self.run_id.encode(), marks)

    def __repr__(self) -> str:
        return f"Result({self.json[:80]!r}, run_id={self.run_id!r})"
