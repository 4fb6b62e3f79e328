"""Approval of calls (`metadata["approval"]`): bound to the call, given once, not by its own caller."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_core import (
    Caller,
    ConfigurationError,
    Invocation,
    Nexus,
    PermissionDenied,
    Principal,
    Run,
    RunStatus,
    hookimpl,
)
from nexus_core.errors import ApprovalDenied
from nexus_core.pipeline.approval import digest_of
from nexus_core.runs.question import QUESTION_BYTES

SECONDS = 20.0
ANN = Principal("ann", frozenset({"refunds.approve"}))
BOSS = Principal("boss", frozenset({"refunds.approve"}))


class Grants:
    """A plugin that grants what a principal has."""

    @hookimpl
    def nexus_register_authorizers(self) -> list[Any]:
        return [self]

    async def granted(self, principal: Principal | None, permissions: frozenset[str]) -> frozenset[str]:
        return permissions & (principal.permissions if principal else frozenset())


async def waiting(nexus: Nexus, params: dict[str, Any], principal: Principal | None = ANN) -> Run:
    run = nexus.submit(Invocation("refund", params, principal=principal))
    await run.settled(SECONDS)
    return run


async def answer(nexus: Nexus, run: Run, value: bool, principal: Principal | None = BOSS) -> None:
    await (await nexus.view(Caller(principal=principal))).questions.answer(run.id, 1, value)


@pytest.fixture(name="refunds")
def refunds_fixture(make: Any) -> Any:
    """Make a Nexus with a workflow that needs an approval."""

    def refunds(approval: Any, *plugins: object, **metadata: Any) -> tuple[Nexus, list[Any]]:
        done: list[Any] = []
        nexus = make(*(plugins or [Grants()]))

        @nexus.workflow(approval=approval, **metadata)
        async def refund(order: int, token: str = "") -> str:
            done.append(order)
            return f"refunded {order}"

        return nexus, done

    return refunds


async def test_a_call_runs_once_it_is_approved(refunds: Any) -> None:
    nexus, done = refunds("permission:refunds.approve", sensitive_parameters=["token"])
    async with nexus:
        run = await waiting(nexus, {"order": 7, "token": "s3cret"})
        assert (run.status, done) == (RunStatus.WAITING, [])
        (asked,) = (await (await nexus.view(Caller(principal=BOSS))).questions.page({}))["questions"]
        assert asked["question"] == 'May the workflow "refund" run with these parameters?'
        assert asked["details"]["parameters"] == {"order": 7, "token": "***"}
        assert asked["details"]["caller"] == "ann"
        with pytest.raises(PermissionDenied, match="another user than the run's caller"):
            await answer(nexus, run, True, ANN)
        assert (await (await nexus.view(Caller(principal=ANN))).questions.page({})) == {"questions": []}
        await answer(nexus, run, True)
        with run.hold():
            assert (await run.outcome()).value == "refunded 7"
        assert done == [7]
        again = await waiting(nexus, {"order": 7})  # the same call needs another approval
        assert again.status is RunStatus.WAITING
        again.cancel()


async def test_a_call_that_is_not_approved_does_not_run(refunds: Any) -> None:
    nexus, done = refunds({"to": "user:boss", "question": "Refund?", "timeout": 0.02})
    async with nexus:
        run = nexus.submit(Invocation("refund", {"order": 1}, principal=ANN))
        with run.hold(), pytest.raises(ApprovalDenied, match=r"not approved within 0\.02 seconds"):
            await run.outcome()
    nexus, done = refunds("user:boss")
    async with nexus:
        run = await waiting(nexus, {"order": 1})
        await answer(nexus, run, False)
        with run.hold(), pytest.raises(ApprovalDenied, match="The call was not approved") as raised:
            await run.outcome()
        assert (raised.value.code, raised.value.status) == ("approval_denied", 403)
    assert done == []


async def test_the_digest_says_nothing_of_what_is_hidden(refunds: Any) -> None:
    nexus, _ = refunds("user:boss", sensitive_parameters=["token"])
    async with nexus:
        runs = [await waiting(nexus, {"order": 1, "token": token}) for token in ("1234", "5678")]
        asked = await (await nexus.view(Caller(principal=BOSS))).questions.find()
        assert len({question.details["digest"] for question in asked if question.details}) == 1
        for run in runs:
            run.cancel()


async def test_parameters_too_large_to_be_shown_are_not_approved(refunds: Any) -> None:
    nexus, done = refunds("user:boss")
    async with nexus:
        run = await waiting(nexus, {"order": 1, "token": "x" * QUESTION_BYTES})
        with run.hold(), pytest.raises(ApprovalDenied, match="too large to be shown"):
            await run.outcome()
        assert run.asked == 0
        run = await waiting(nexus, {"order": 1, "token": "x" * (QUESTION_BYTES - 1000)})
        await answer(nexus, run, True)
        await run.wait(SECONDS)
    assert done == [1]


async def test_the_caller_may_be_the_one_who_confirms(refunds: Any) -> None:
    nexus, done = refunds("caller")
    async with nexus:
        run = await waiting(nexus, {"order": 1})
        await answer(nexus, run, True, ANN)
        await run.wait(SECONDS)
    assert done == [1]


async def test_wrong_parameters_are_refused_before_anybody_is_asked(refunds: Any) -> None:
    nexus, _ = refunds("user:boss")
    async with nexus:
        run = await waiting(nexus, {"order": "x"})
        assert run.status is RunStatus.FAILED
        assert run.asked == 0


async def test_the_digest_tells_calls_apart(make: Any) -> None:
    nexus = make()

    def refund(order: int) -> int:
        return order

    nexus.register("refund", refund, {"version": "1"})
    nexus.register("other", refund, {"version": "1"})
    nexus.register("newer", refund, {"version": "2"})

    def digest(name: str, params: dict[str, Any], principal: Principal | None) -> str:
        call = Invocation(name, params, principal=principal, validated_params=params)
        return digest_of(nexus.workflows.get(name), call, params)

    calls = [
        ("refund", {"order": 1}, ANN), ("refund", {"order": 2}, ANN), ("refund", {"order": 1}, BOSS),
        ("refund", {"order": 1}, None), ("other", {"order": 1}, ANN), ("newer", {"order": 1}, ANN),
    ]  # fmt: skip
    assert len({digest(*call) for call in calls}) == len(calls)
    assert digest(*calls[0]) == digest(*calls[0])


@pytest.mark.parametrize(
    ("approval", "message"),
    [
        ("boss", r"metadata\['approval'\] to must be 'caller', 'user:'"),
        (True, "must be 'permission:NAME'"),
        ({}, "must be 'permission:NAME'"),
        ({"to": "caller", "until": 3}, "must be 'permission:NAME'"),
        ({"to": "caller", "timeout": 0}, "timeout must be a number of seconds"),
        ({"to": "caller", "question": " "}, "question must have 1 to 2000 characters"),
        ({"to": "caller", "question": 3}, "question must be a text"),
        ({"to": 3}, "to must be a text"),
    ],
)
def test_wrong_approvals_are_refused(refunds: Any, approval: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        refunds(approval)


async def test_an_approval_that_every_caller_could_give_is_refused(make: Any) -> None:
    async def refund(order: int) -> int:
        return order

    nexus = make()
    nexus.register("refund", refund, {"approval": "permission:refunds.approve"})
    with pytest.raises(ConfigurationError, match='approval, set by "refund", is given by every caller'):
        async with nexus:
            pass
    nexus = make(insecure=True)
    nexus.register("refund", refund, {"approval": "permission:refunds.approve"})
    async with nexus:
        run = nexus.submit(Invocation("refund", {"order": 1}))
        await run.settled(SECONDS)
        await answer(nexus, run, True, None)
        assert await run.wait(SECONDS)
