"""`Call`: what log records say of the call that they belong to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import LONGEST, Redactor, short_id

from nexus_core.text import printable
from nexus_core.types.trace import current_trace, parse_traceparent

if TYPE_CHECKING:
    from nexus_core import Invocation, NexusError
    from nexus_logs.marks import Marks

ID_CHARACTERS = 200
"""How much of an id that a caller chooses is logged."""

MESSAGE_CHARACTERS = 500
"""How much of an error's message is logged with its call."""

SHORTEST_TOKEN = 8
"""Characters of a credential's part that is secret: not those of ``Bearer``."""


class Call:
    """One call, while it is worked on."""

    __slots__ = ("_invocation", "_looked_through", "_marks", "_params", "_redactor", "_secrets")

    def __init__(self, invocation: Invocation, redactor: Redactor, marks: Marks) -> None:
        self._invocation = invocation
        self._params = invocation.params  # as the caller gave them: a later stage replaces them
        self._redactor = redactor
        self._marks = marks
        self._secrets: tuple[str, ...] = ()
        self._looked_through: object = None

    def ids(self) -> dict[str, Any]:
        """Return what tells the call from others: run, workflow, channel, session, caller, trace."""
        invocation = self._invocation
        ids: dict[str, Any] = {"workflow": _short(invocation.name), "channel": invocation.channel}
        if invocation.run is not None:
            ids["run_id"] = invocation.run.id
        if invocation.session_id is not None:
            ids["session_id"] = _short(short_id(invocation.session_id))
        if (principal := invocation.principal) is not None:
            ids["user_id"] = _short(principal.user_id)
            if principal.tenant_id is not None:
                ids["tenant_id"] = _short(principal.tenant_id)
        if (trace := current_trace.get()) is not None:
            ids["trace_id"], ids["span_id"] = trace.trace_id, trace.span_id
        elif invocation.trace is not None and (parent := parse_traceparent(invocation.trace.get("traceparent", ""))):
            ids["trace_id"] = parent.trace_id
        return ids

    def origin(self) -> dict[str, str]:
        """Return where the call comes from, as far as it is known."""
        address = self._invocation.client_address
        return {"client_address": _short(address)} if address else {}

    def why(self, error: NexusError) -> dict[str, str]:
        """Return what an error says of the call."""
        text = self._redactor.text(error.message, self.secrets())
        return {"code": error.code, "error": printable(text, MESSAGE_CHARACTERS)}

    def parameters(self) -> Any:
        """Return the parameters as the caller gave them, without secrets."""
        marked = self._marks.of(self._invocation.workflow)
        if self._redactor.is_plain(self._params, marked):
            return self._params
        return self._redactor.value(self._params, self.secrets(), marked)

    def secrets(self) -> tuple[str, ...]:
        """Return what the caller gave that is secret: no log record of the call has it. The longest first."""
        given = self._invocation.validated_params  # a later stage puts another in its place
        if self._looked_through is not given:
            self._looked_through = given
            self._secrets = tuple(sorted(self._found_secrets(), key=len, reverse=True))
        return self._secrets

    def _found_secrets(self) -> set[str]:
        invocation = self._invocation
        marked = self._marks.of(invocation.workflow)
        found = self._redactor.secrets_in(self._params, marked) | self._redactor.secrets_in(
            invocation.validated_params, marked
        )
        for credential in (invocation.credentials or {}).values():
            found.update(part[:LONGEST] for part in credential.split() if len(part) >= SHORTEST_TOKEN)
        if invocation.session_id is not None and len(invocation.session_id) >= SHORTEST_TOKEN:
            found.add(invocation.session_id)
        return found


def _short(text: str) -> str:
    return printable(text, ID_CHARACTERS)


current_call: ContextVar[Call | None] = ContextVar("nexus_logs_current_call", default=None)
"""The call that the running code belongs to, in its tasks and threads too."""
