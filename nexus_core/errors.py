"""The one hierarchy of errors that callers see, on every channel.

Each class carries what every channel needs to translate it: a stable ``code``, the HTTP status, the exit code of
the command line and the JSON-RPC error code. A channel never decides what an error means; it only renders
`NexusError.problem`.

Exit codes follow ``sysexits.h`` (64 to 77) where it has a fitting one, and ``timeout(1)`` for 124. JSON-RPC codes
other than -32602 (invalid params) lie in the range -32000 to -32099 that JSON-RPC 2.0 leaves to servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NexusError(Exception):
    """Base of every error a caller may see. Its message is shown to the caller: it holds no secret and no traceback.

    Args:
        message: One sentence that states the problem and names the field, the limit or the setting.
        errors: One entry for each wrong field: ``{"pointer": "/a", "message": ..., "expected": ..., "nearest": ...}``.
        retry_after: Seconds after which a repeat may succeed.
        run_id: The run that the error ended, if one had begun.
        details: Further JSON members of the reply, such as the current version in a conflict.

    Attributes:
        reply: What an event handler puts in the error's place, in the answer to this caller; see `EventHandler`.
    """

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    jsonrpc_code: ClassVar[int] = -32603
    _outcome: ClassVar[str] = "refused"

    def __init__(
        self, message: str, *, errors: Sequence[dict[str, Any]] = (), retry_after: float | None = None,
        run_id: str | None = None, details: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message, self.errors = message, list(errors)
        self.retry_after, self.run_id = retry_after, run_id
        self.details = details or {}
        self.reply: Any = None

    @property
    def outcome(self) -> str:
        """What has become of the call: it was ``refused`` and did not run, has ``failed``, or was ``cancelled``."""
        return "failed" if type(self) is NexusError else self._outcome

    def copy(self) -> Self:
        """Return the error without its traceback, whose frames hold all they worked on: to keep, or to raise again."""
        same = type(self).__new__(type(self), *self.args)
        vars(same).update(vars(self))
        return same

    def answer(self) -> Any:
        """Return what the caller receives: what an event handler has put in the error's place, or the problem."""
        return self.problem() if self.reply is None else self.reply

    def problem(self) -> dict[str, Any]:
        """Return the error as RFC 9457 problem details: the same object on every channel."""
        problem: dict[str, Any] = {
            "type": f"urn:nexus:error:{self.code}", "title": self.title, "status": self.status,
            "detail": self.message, "code": self.code,
        }  # fmt: skip
        optional = {"run_id": self.run_id, "errors": self.errors or None, "retry_after": self.retry_after}
        return problem | {name: value for name, value in optional.items() if value is not None} | self.details


class ValidationError(NexusError):
    """The parameters do not fit the workflow's input schema."""

    code = "validation_error"
    title = "Invalid parameters"
    status = 422
    exit_code = 2
    jsonrpc_code = -32602


class MalformedRequest(ValidationError):
    """The request can't be read at all: not JSON, or not the shape that the protocol asks for."""

    code = "malformed_request"
    title = "Malformed request"
    status = 400


class RequestTooLarge(ValidationError):
    """The request's body is larger than ``max_body_bytes``."""

    code = "request_too_large"
    title = "Request too large"
    status = 413


class RequestTimeout(ValidationError):
    """The request's body did not arrive within ``body_timeout`` seconds."""

    code = "request_timeout"
    title = "Request not received in time"
    status = 408


class UnsupportedEncoding(ValidationError):
    """The request's body is encoded in another way than gzip (``Content-Encoding``)."""

    code = "unsupported_encoding"
    title = "Unsupported content encoding"
    status = 415


class AuthenticationError(NexusError):
    """No credential, or one that is not accepted.

    Args:
        message: As for every error: it must not help to guess a credential.
        challenge: What would be accepted, for the header ``WWW-Authenticate``. ``{origin}`` in it stands for the
            address that the caller has used, such as ``https://api.example.com``.
        **members: As for every error.
    """

    code = "authentication_failed"
    title = "Authentication required"
    status = 401
    exit_code = 77
    jsonrpc_code = -32010

    def __init__(self, message: str, *, challenge: str = "Bearer", **members: Any) -> None:
        super().__init__(message, **members)
        self.challenge = challenge


class CredentialEnded(AuthenticationError):
    """The credential that a stream was opened with has expired or was revoked: the stream has ended with it."""

    code = "credential_ended"
    title = "Credential ended"


class PermissionDenied(NexusError):
    """The caller is known and lacks a permission."""

    code = "permission_denied"
    title = "Permission denied"
    status = 403
    exit_code = 77
    jsonrpc_code = -32011


class OriginNotAllowed(PermissionDenied):
    """A web page of an origin that is not allowed makes the request."""

    code = "origin_not_allowed"
    title = "Origin not allowed"


class HostNotAllowed(PermissionDenied):
    """The Host header names a host that is not answered here: possibly a name rebound to this machine."""

    code = "host_not_allowed"
    title = "Host not allowed"
    status = 421


class NotFound(NexusError):
    """What the caller names does not exist, or the caller may not know that it does."""

    code = "not_found"
    title = "Not found"
    status = 404
    exit_code = 66
    jsonrpc_code = -32602


class WorkflowNotFound(NotFound):
    """No workflow of that name."""

    code = "workflow_not_found"
    title = "Unknown workflow"


class RunNotFound(NotFound):
    """No run with this id."""

    code = "run_not_found"
    title = "Unknown run"


class QuestionNotFound(NotFound):
    """No question is kept under this number, or it may not be known to this caller; or its link is not valid."""

    code = "question_not_found"
    title = "Question not found"


class SessionNotFound(NotFound):
    """No session with this id."""

    code = "session_not_found"
    title = "Unknown session"


class MethodNotAllowed(NotFound):
    """The address exists, the HTTP method does not."""

    code = "method_not_allowed"
    title = "Method not allowed"
    status = 405


class Conflict(NexusError):
    """The request contradicts another one: an idempotency key in flight, an older version of a state."""

    code = "conflict"
    title = "Conflict"
    status = 409
    exit_code = 65
    jsonrpc_code = -32012


class QuestionClosed(Conflict):
    """The question was answered before, has expired, or its run has ended; ``status`` says which."""

    code = "question_closed"
    title = "Question closed"


class CodeChanged(Conflict):
    """The code of the workflow has changed since the run began, so that it can't go on: its run is `blocked`."""

    code = "code_changed"
    title = "Code changed"


class RateLimited(NexusError):
    """The caller has used up its budget."""

    code = "rate_limited"
    title = "Too many requests"
    status = 429
    exit_code = 75
    jsonrpc_code = -32013


class StateLimitReached(RateLimited):
    """The caller has stored as much state of a kind as one caller may: sessions, idempotency keys, browser logins."""

    code = "state_limit_reached"
    title = "Too much state stored"
    jsonrpc_code = -32020


class Overloaded(NexusError):
    """``max_concurrent_workflows`` are running, a queue is full, or the platform is not started or shutting down."""

    code = "overloaded"
    title = "Overloaded"
    status = 503
    exit_code = 75
    jsonrpc_code = -32014


class CircuitOpen(NexusError):
    """The workflow failed too often; its circuit breaker refuses calls for a while."""

    code = "circuit_open"
    title = "Circuit open"
    status = 503
    exit_code = 75
    jsonrpc_code = -32015


class BackendUnavailable(NexusError):
    """A store that the request needs does not answer."""

    code = "backend_unavailable"
    title = "Backend unavailable"
    status = 503
    exit_code = 75
    jsonrpc_code = -32016


class WorkflowTimeout(NexusError):
    """The workflow did not finish before its deadline."""

    code = "workflow_timeout"
    title = "Workflow timed out"
    status = 504
    exit_code = 124
    jsonrpc_code = -32017
    _outcome = "failed"


class WorkflowFailed(NexusError):
    """The workflow raised, or returned something that can't be sent. The reason is in the log, under the run id."""

    code = "workflow_failed"
    title = "Workflow failed"
    status = 500
    exit_code = 1
    jsonrpc_code = -32018
    _outcome = "failed"


class WorkflowError(WorkflowFailed):
    """Raised by a workflow's own code to tell the caller what went wrong: its message is shown as it is."""

    code = "workflow_error"


class StepTimeout(WorkflowError):
    """A step of the workflow did not finish within its ``timeout``, and the workflow did not handle it."""

    code = "step_timeout"
    title = "Step timed out"
    status = 504
    exit_code = 124
    jsonrpc_code = -32017


class QuestionExpired(WorkflowError):
    """A question of the workflow was not answered in time, has no default, and the workflow did not handle that."""

    code = "question_expired"
    title = "Question expired"
    status = 504
    exit_code = 124
    jsonrpc_code = -32017


class ApprovalDenied(WorkflowError):
    """The call needed an approval and did not get it."""

    code = "approval_denied"
    title = "Approval denied"
    status = 403
    exit_code = 77
    jsonrpc_code = -32011


class RunCancelled(NexusError):
    """The run was cancelled: by a caller, or because the process stops."""

    code = "run_cancelled"
    title = "Run cancelled"
    status = 409
    exit_code = 130
    jsonrpc_code = -32019
    _outcome = "cancelled"


class RunInterrupted(NexusError):
    """The process that ran the workflow ended before the run did; a part of the work may have been done."""

    code = "run_interrupted"
    title = "Run interrupted"
    status = 500
    exit_code = 75
    jsonrpc_code = -32021
    _outcome = "failed"


class ConfigurationError(Exception):
    """An option, a plugin or a registration is wrong. Raised to the operator at start-up, never to a caller."""


class PluginError(ConfigurationError):
    """A plugin that must run does not: it is required, or it guards access."""


class PortInUse(ConfigurationError):
    """A channel's port is taken by another process."""


def error_from_problem(problem: Mapping[str, Any]) -> NexusError:
    """Return the error that problem details were made from. A class that is not known here is chosen by its status."""
    code, status = str(problem.get("code", "")), problem.get("status")
    classes = error_classes()
    kind = next((each for each in classes if each.code == code), None)
    known = {"type", "title", "status", "detail", "code", "run_id", "errors", "retry_after"}
    error = (kind or next((each for each in classes if each.status == status), NexusError))(
        str(problem.get("detail", "")), errors=problem.get("errors") or (), retry_after=problem.get("retry_after"),
        run_id=problem.get("run_id"), details={name: each for name, each in problem.items() if name not in known},
    )  # fmt: skip
    if kind is None:  # a plugin's own
        vars(error).update({name: problem[name] for name in ("code", "title", "status") if problem.get(name)})
    return error


def error_classes() -> list[type[NexusError]]:
    """Return every error class a caller may see, base first, for documentation and tests."""
    found: list[type[NexusError]] = [NexusError]
    for cls in found:
        found.extend(cls.__subclasses__())
    return found
