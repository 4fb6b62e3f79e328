"""Values of run stores: what is made of the platform's own."""

from __future__ import annotations

import pytest

from nexus_core import MalformedRequest, Principal
from nexus_core.errors import RunInterrupted
from nexus_core.events.event import WORKFLOW_COMPLETED, WORKFLOW_PROGRESS, ChannelEvent
from nexus_core.runs.contract.base import sample_record
from nexus_core.runs.record import NEXT, PrincipalRecord, RunCursor, RunEvent, RunState
from nexus_core.runs.status import RunStatus
from nexus_core.runs.store import interrupted
from nexus_core.types.result import Result


def test_a_principal_is_the_same_without_its_claims():
    principal = Principal("ann", frozenset({"b", "a"}), frozenset({"s"}), "acme", {"token": "secret"})
    record = PrincipalRecord.of(principal)
    assert record == PrincipalRecord("ann", ("a", "b"), ("s",), "acme")
    assert record.principal() == Principal("ann", frozenset({"a", "b"}), frozenset({"s"}), "acme")
    assert record.principal().identity == principal.identity


def test_an_event_is_sent_as_it_would_have_been_without_a_store():
    progress = ChannelEvent(WORKFLOW_PROGRESS, "add", "api", "r1", data={"done": 1}, number=3)
    completed = ChannelEvent(WORKFLOW_COMPLETED, "add", "api", "r1", result=Result(b"[1]", "r1"), duration=0.5)
    assert RunEvent.of(progress).number == 3
    assert RunEvent.of(progress).to_dict() == progress.to_dict()
    assert list(RunEvent.of(progress).to_dict()) == list(progress.to_dict())
    assert RunEvent.of(completed).number == NEXT
    assert RunEvent(4, RunEvent.of(completed).body).to_dict() == {"number": 4} | completed.to_dict()


def test_a_run_whose_process_has_died_ends_as_a_failed_one_does():
    record = sample_record("r1", session_id="s1", accepted_at=10.0)
    change = interrupted(RunState(record, started_at=11.0), now=15.0)
    assert (change.status, change.finished_at, change.attempt) == (RunStatus.FAILED, 15.0, 1)
    (event,) = change.events
    assert event.number == NEXT
    assert RunEvent(7, event.body).to_dict() == {
        "number": 7, "type": "workflow.failed", "time": 15.0, "run_id": "r1", "channel": "api", "session_id": "s1",
        "workflow": "add", "duration": 4.0, "error": dict(change.problem),
    }  # fmt: skip
    assert change.problem["code"] == RunInterrupted.code == "run_interrupted"


@pytest.mark.parametrize("cursor", [RunCursor(1_790_000_000.123456, "0" * 32), RunCursor(0.1, "a-b-c")])
def test_a_cursor_comes_back_as_it_was_sent(cursor):
    assert RunCursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "1", "-", "x-y", "1e400-x", "nan-x"])
def test_other_cursors_are_refused(text):
    with pytest.raises(MalformedRequest, match="before"):
        RunCursor.parse(text)
