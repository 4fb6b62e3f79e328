"""`LoggedCall`: what log records contain of their call."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import LONGEST, Redactor, short_id

from nexus_core.text import printable
from nexus_core.types.trace import current_trace, parse_traceparent

if TYPE_CHECKING:
    from nexus_core import Invocation, NexusError
    from nexus_logs.sensitive import SensitiveParameters

ID_CHARACTERS = 200
"""Characters of an id that a caller chooses, at most."""

MESSAGE_CHARACTERS = 500
"""Characters of an error message, at most."""

SHORTEST_TOKEN = 8
"""Minimum characters of the secret part of a credential: longer than ``Bearer``."""


class LoggedCall:
    """A call in progress."""

    __slots__ = ("_invocation", "_params", "_redactor", "_searched", "_secrets", "_sensitive")

    def __init__(self, invocation: Invocation, redactor: Redactor, sensitive: SensitiveParameters) -> None:
        self._invocation = invocation
        self._params = invocation.params  # as sent by the caller: a later stage replaces them
        self._redactor = redactor
        self._sensitive = sensitive
        self._secrets: tuple[str, ...] = ()
        self._searched: object = None

    def ids(self) -> dict[str, Any]:
        """Return the ids of the call: run, workflow, channel, session, caller, trace."""
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
        """Return the origin of the call, if known."""
        address = self._invocation.client_address
        return {"client_address": _short(address)} if address else {}

    def error(self, error: NexusError) -> dict[str, str]:
        """Return code and message of an error."""
        text = self._redactor.text(error.message, self.secrets())
        return {"code": error.code, "error": printable(text, MESSAGE_CHARACTERS)}

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
            self._secrets = tuple(sorted(self._found_secrets(), key=len, reverse=True))
        return self._secrets

    def _found_secrets(self) -> set[str]:
        invocation = self._invocation
        marked = self._sensitive.names_of(invocation.workflow)
        sent, validated = self._params, invocation.validated_params
        found = self._redactor.secrets_in(sent, marked) | self._redactor.secrets_in(validated, marked)
        for credential in (invocation.credentials or {}).values():
            found.update(part[:LONGEST] for part in credential.split() if len(part) >= SHORTEST_TOKEN)
        if invocation.session_id is not None and len(invocation.session_id) >= SHORTEST_TOKEN:
            found.add(invocation.session_id)
        return found


def _short(text: str) -> str:
    return printable(text, ID_CHARACTERS)


current_call: ContextVar[LoggedCall | None] = ContextVar("nexus_logs_current_call", default=None)
"""The call that the running code is part of, in its tasks and threads too."""
