"""`LoggedCall`: what log records contain of their call."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import LONGEST, Redactor, short_id

from nexus_core.text import printable
from nexus_core.types.trace import current_trace, parse_traceparent

if TYPE_CHECKING:
    from nexus_toolkit.sensitive import SensitiveParameters

    from nexus_core import Caller, Invocation, NexusError

ID_CHARACTERS = 200
"""Characters of an id that a caller chooses, at most."""

MESSAGE_CHARACTERS = 500
"""Characters of an error message, at most."""

SHORTEST_TOKEN = 8
"""Minimum characters of the secret part of a credential: longer than ``Bearer``."""


class LoggedRequest:
    """A request in progress that reads, by its caller alone."""

    __slots__ = ("_caller", "_redactor")

    def __init__(self, caller: Caller, redactor: Redactor) -> None:
        self._caller = caller
        self._redactor = redactor

    def ids(self) -> dict[str, Any]:
        """Return the ids of the request: channel, session, caller, trace."""
        caller = self._caller
        ids: dict[str, Any] = {"channel": caller.channel}
        if caller.session_id is not None:
            ids["session_id"] = _short(short_id(caller.session_id))
        if (principal := caller.principal) is not None:
            ids["user_id"] = _short(principal.user_id)
            if principal.tenant_id is not None:
                ids["tenant_id"] = _short(principal.tenant_id)
        if (trace := current_trace.get()) is not None:
            ids["trace_id"], ids["span_id"] = trace.trace_id, trace.span_id
        elif caller.trace is not None and (parent := parse_traceparent(caller.trace.get("traceparent", ""))):
            ids["trace_id"] = parent.trace_id
        return ids

    def origin(self) -> dict[str, str]:
        """Return the origin of the request, if known."""
        address = self._caller.client_address
        return {"client_address": _short(address)} if address else {}

    def error(self, error: NexusError) -> dict[str, str]:
        """Return code and message of an error."""
        text = self._redactor.text(error.message, self.secrets())
        return {"code": error.code, "error": printable(text, MESSAGE_CHARACTERS)}

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets that the caller sent, the longest first: no log record contains them."""
        return tuple(sorted(self._found_secrets(), key=len, reverse=True))

    def _found_secrets(self) -> set[str]:
        caller = self._caller
        found: set[str] = set()
        for credential in (caller.credentials or {}).values():
            found.update(part[:LONGEST] for part in credential.split() if len(part) >= SHORTEST_TOKEN)
        if caller.session_id is not None and len(caller.session_id) >= SHORTEST_TOKEN:
            found.add(caller.session_id)
        return found


class LoggedCall(LoggedRequest):
    """A call in progress."""

    __slots__ = ("_invocation", "_params", "_searched", "_secrets", "_sensitive")

    def __init__(self, invocation: Invocation, redactor: Redactor, sensitive: SensitiveParameters) -> None:
        super().__init__(invocation, redactor)
        self._invocation = invocation
        self._params = invocation.params  # as sent by the caller: a later stage replaces them
        self._sensitive = sensitive
        self._secrets: tuple[str, ...] = ()
        self._searched: object = None

    def ids(self) -> dict[str, Any]:
        """Return the ids of the call: run, workflow, channel, session, caller, trace."""
        invocation = self._invocation
        return {"workflow": _short(invocation.name), **super().ids(), "run_id": invocation.run.id}

    def parameters(self) -> Any:
        """Return the parameters as sent by the caller, redacted."""
        marked = self._sensitive.names_of(self._invocation.workflow)
        if self._redactor.is_plain(self._params, marked):
            return self._params
        return self._redactor.value(self._params, self.secrets(), marked)

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets that the caller sent, the longest first: no log record of the call contains them."""
        given = self._invocation.validated_params  # a later stage replaces it
        if self._searched is not given:
            self._searched = given
            self._secrets = super().secrets()
        return self._secrets

    def _found_secrets(self) -> set[str]:
        invocation = self._invocation
        marked = self._sensitive.names_of(invocation.workflow)
        sent, validated = self._params, invocation.validated_params
        found = self._redactor.secrets_in(sent, marked) | self._redactor.secrets_in(validated, marked)
        return found | super()._found_secrets()


def _short(text: str) -> str:
    return printable(text, ID_CHARACTERS)


current_call: ContextVar[LoggedCall | None] = ContextVar("nexus_logs_current_call", default=None)
"""The call that the running code is part of, in its tasks and threads too."""
