"""Questions that a run waits for: what is asked, who may answer, and what became of it. Values without behaviour."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from nexus_core import jsontext
from nexus_core.errors import MalformedRequest
from nexus_core.types.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

QUESTION_CHARACTERS = 2000
"""The longest text of a question."""

QUESTION_BYTES = 64 * 1024
"""The longest JSON text of a question's schema and details together, and of an answer."""

QUESTIONS_OF_RUN = 1000
"""How many questions a run may ask."""

USER, PERMISSION = "user:", "permission:"
"""How `RunQuestion.audience` begins, before a `Principal.identity` or before a tenant, a colon and a permission."""


class QuestionStatus(StrEnum):
    """What became of a question. `WITHDRAWN` is one whose run has ended before it was answered."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class RunQuestion:
    """A question of a run.

    Attributes:
        run_id: The run.
        number: Its place among the questions of its run, from 1.
        workflow: Name of the run's workflow.
        text: The question.
        schema: JSON Schema (2020-12) of the answer.
        to: Who may answer, as the workflow says it: ``caller``, ``user:ID`` or ``permission:NAME``.
        audience: The same, as one text that is compared; see `audience_of`.
        asked_at: When it was asked, in seconds since the epoch.
        expires_at: Until when it can be answered, or None without a limit.
        owner: The `Principal.identity` that the run belongs to, or None where authentication is off.
        details: What it is about, for who answers: an object, or None.
        excludes_owner: Whether the run's owner may not answer it, whatever it may otherwise.
        secret: SHA-256 of the secret of its link, in hex; "" without a link.
        status: What became of it.
        closed_at: When it was answered, or has ended without an answer; None while it is open.
        answer: The answer as JSON text, or None.
        answered_by: Who answered: a user id, or ``link``; None where authentication is off.
    """

    run_id: str
    number: int
    workflow: str
    text: str
    schema: Mapping[str, Any]
    to: str
    audience: str
    asked_at: float
    expires_at: float | None = None
    owner: str | None = None
    details: Mapping[str, Any] | None = None
    excludes_owner: bool = False
    secret: str = ""
    status: QuestionStatus = QuestionStatus.OPEN
    closed_at: float | None = None
    answer: bytes | None = field(default=None, repr=False)
    answered_by: str | None = None

    @property
    def cursor(self) -> QuestionCursor:
        """Its place in listings."""
        return QuestionCursor(self.asked_at, self.run_id, self.number)

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer."""
        return self.status is QuestionStatus.OPEN

    def closed(self, closing: QuestionClosing) -> RunQuestion:
        """Return what it is after it was closed."""
        return replace(
            self, status=closing.status, closed_at=closing.closed_at, answer=closing.answer,
            answered_by=closing.answered_by,
        )  # fmt: skip

    def takes(self, closing: QuestionClosing) -> bool:
        """Whether it can be closed so: it is open, and an answer comes in time."""
        is_late = self.expires_at is not None and closing.closed_at >= self.expires_at
        return self.is_open and not (is_late and closing.status is QuestionStatus.ANSWERED)

    def is_closed_by(self, closing: QuestionClosing) -> bool:
        """Whether it was closed by this closing."""
        return self == self.closed(closing)

    def fits(self, secret: str) -> bool:
        """Whether a link has its secret."""
        return bool(self.secret) and hmac.compare_digest(self.secret, secret_hash(secret))

    def encode(self) -> bytes:
        """Return what is stored of it that does not change, as JSON text."""
        members = asdict(self)
        for name in ("run_id", "number", "status", "closed_at", "answer", "answered_by"):
            del members[name]
        return jsontext.encode(members)

    @classmethod
    def decode(
        cls, run_id: str, number: int, body: bytes, status: str, closed_at: float | None, answer: bytes | None,
        answered_by: str | None,
    ) -> Self:  # fmt: skip
        """Return the question of a text that `encode` has made, and of what changes."""
        members = jsontext.parse_trusted(body)
        return cls(
            run_id, number, **members, status=QuestionStatus(status), closed_at=closed_at, answer=answer,
            answered_by=answered_by,
        )  # fmt: skip

    def to_dict(self, *, with_answer: bool = False) -> dict[str, Any]:
        """Return the question as channels show it; absent values are left out."""
        members: dict[str, Any] = {
            "run_id": self.run_id, "number": self.number, "workflow": self.workflow, "question": self.text,
            "schema": dict(self.schema), "to": self.to, "status": str(self.status), "asked_at": self.asked_at,
        }  # fmt: skip
        optional = {
            "expires_at": self.expires_at, "details": self.details, "closed_at": self.closed_at,
            "answered_by": self.answered_by,
        }  # fmt: skip
        members |= {name: value for name, value in optional.items() if value is not None}
        if with_answer and self.answer is not None:
            members["answer"] = jsontext.parse_trusted(self.answer)
        return members


class QuestionClosing(NamedTuple):
    """How a question ends. Of several, the first one counts.

    Attributes:
        status: What becomes of it: not `QuestionStatus.OPEN`.
        closed_at: When, in seconds since the epoch.
        answer: The answer as JSON text, or None.
        answered_by: See `RunQuestion.answered_by`.
    """

    status: QuestionStatus
    closed_at: float
    answer: bytes | None = None
    answered_by: str | None = None


class QuestionCursor(NamedTuple):
    """A place in a listing of questions: older ones come before it."""

    asked_at: float
    run_id: str
    number: int

    def __str__(self) -> str:
        """Return it as callers send it back."""
        return f"{self.asked_at!r}-{self.run_id}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place that a caller names.

        Raises:
            MalformedRequest: The text is not a cursor.
        """
        time, _, rest = text.partition("-")
        run_id, _, number = rest.rpartition("-")
        try:
            cursor = cls(float(time), run_id, int(number))
        except ValueError:
            cursor = cls(0.0, "", 0)
        is_place = 0 < cursor.asked_at < 1e11 and 0 < cursor.number < 10**9
        if not (is_place and run_id and run_id.isprintable()):  # not every store can look up any other
            raise MalformedRequest("after is not a cursor: pass the next of an earlier page.")
        return cursor


@dataclass(frozen=True, slots=True)
class QuestionFilter:
    """Which questions a listing shows, oldest first. None in a member means any.

    Attributes:
        audiences: Only questions to one of these audiences.
        run_id: Only questions of this run.
        is_open: Whether only open questions are shown.
        after: Only questions after this place in the listing.
        limit: How many at most.
    """

    audiences: Collection[str] | None = None
    run_id: str | None = None
    is_open: bool = True
    after: QuestionCursor | None = None
    limit: int = 100

    def matches(self, question: RunQuestion) -> bool:
        """Whether it shows a question, leaving ``limit`` aside."""
        return (
            (self.audiences is None or question.audience in self.audiences)
            and (self.run_id is None or question.run_id == self.run_id)
            and (question.is_open or not self.is_open)
            and (self.after is None or question.cursor > self.after)
        )


def check_text(text: Any) -> None:
    """Refuse what is no text of a question.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty, too long, or has a lone surrogate, which no JSON text can hold.
    """
    if not isinstance(text, str):
        raise TypeError(f"question must be a text, not {type(text).__name__}")
    if not text.strip() or len(text) > QUESTION_CHARACTERS:
        raise ValueError(f"question must have 1 to {QUESTION_CHARACTERS} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("question must not have lone surrogates") from None


def audience_of(to: str, principal: Principal | None) -> str:
    """Return who may answer a question as one text that is compared.

    Users of another tenant than the run's caller may not, whatever their ids and their permissions.

    Args:
        to: ``caller``, ``user:ID`` or ``permission:NAME``.
        principal: The run's caller, or None where authentication is off.

    Raises:
        TypeError, ValueError: ``to`` has another form.
    """
    if not isinstance(to, str):
        raise TypeError(f"to must be a text, not {type(to).__name__}")
    tenant = None if principal is None else principal.tenant_id
    if to == "caller":
        return USER + ("" if principal is None else principal.identity)
    for kind in (USER, PERMISSION):
        name = to.removeprefix(kind)
        if name and name != to and name.isprintable():
            is_user = kind == USER
            return USER + Principal(name, tenant_id=tenant).identity if is_user else permission_audience(tenant, name)
    raise ValueError("to must be 'caller', 'user:' and a user id, or 'permission:' and a permission")


def permission_audience(tenant: str | None, permission: str) -> str:
    """Return the audience of those in a tenant who have a permission."""
    return f"{PERMISSION}{Principal('', tenant_id=tenant).identity}:{permission}"


def permission_of(audience: str, tenant: str | None) -> str | None:
    """Return the permission that an audience of a tenant has; None for other audiences."""
    own = permission_audience(tenant, "")
    return audience.removeprefix(own) if audience.startswith(own) else None


def secret_hash(secret: str) -> str:
    """Return what is stored of the secret of a link."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
