"""Questions: a run waits for the answer, gives its place back, and goes on."""

from __future__ import annotations

import asyncio
import threading
from datetime import date
from typing import Any, Literal

import pytest

from nexus_core import (
    Caller,
    ConfigurationError,
    Context,
    Invocation,
    MalformedRequest,
    Nexus,
    NexusError,
    Overloaded,
    PermissionDenied,
    Principal,
    Run,
    RunCancelled,
    RunStatus,
    ValidationError,
    WorkflowTimeout,
    hookimpl,
)
from nexus_core.errors import BackendUnavailable, QuestionClosed, QuestionExpired, QuestionNotFound, RequestTooLarge
from nexus_core.runs import asking
from nexus_core.runs.memory import MemoryRunStore
from nexus_core.runs.question import QUESTION_BYTES, audience_of, permission_audience, permission_of
from nexus_core.server.channel import Channel
from nexus_core.testing import eventually

SECONDS = 20.0


class Store(MemoryRunStore):
    """A run store that may be away."""

    name = "kept"
    is_away = False

    async def write(self, changes: Any) -> Any:
        self._answer()
        return await super().write(changes)

    async def question(self, run_id: str, number: int) -> Any:
        self._answer()
        return await super().question(run_id, number)

    async def close_question(self, run_id: str, number: int, closing: Any) -> bool:
        self._answer()
        return await super().close_question(run_id, number, closing)

    def _answer(self) -> None:
        if self.is_away:
            raise BackendUnavailable("The run store is away.")


class Gives:
    """A plugin with a run store."""

    def __init__(self) -> None:
        self.store = Store()

    @hookimpl
    def nexus_register_run_stores(self) -> list[Any]:
        return [self.store]


class Grants:
    """A plugin that grants what a principal has."""

    @hookimpl
    def nexus_register_authorizers(self) -> list[Any]:
        return [self]

    async def granted(self, principal: Principal | None, permissions: frozenset[str]) -> frozenset[str]:
        return permissions & (principal.permissions if principal else frozenset())


@pytest.fixture(name="place", params=["process", "store"])
def place_fixture(request: pytest.FixtureRequest, make: Any) -> Any:
    """Make a Nexus that keeps runs in its process, or in a store."""

    def place(*plugins: object, **options: Any) -> Nexus:
        if request.param == "store":
            options |= {"run_store": "kept"}
            plugins = (*plugins, Gives())
        return make(*plugins, **options)

    return place


async def waiting(nexus: Nexus, name: str, params: dict[str, Any] | None = None, **members: Any) -> Run:
    """Submit a call, and return its run when it waits or has ended."""
    run = nexus.submit(Invocation(name, params or {}, **members))
    await run.settled(SECONDS)
    return run


async def questions_of(nexus: Nexus, principal: Principal | None = None) -> Any:
    return (await nexus.view(Caller(principal=principal))).questions


async def test_a_run_waits_for_its_answer(place: Any) -> None:
    nexus = place()

    @nexus.workflow
    async def ship(context: Context, count: int) -> str:
        if await context.ask(f"Ship {count}?", bool, details={"count": count}):
            return "shipped"
        return "kept"

    async with nexus:
        run = await waiting(nexus, "ship", {"count": 3})
        assert run.status is RunStatus.WAITING
        questions = await questions_of(nexus)
        (asked,) = (await questions.page({}))["questions"]
        assert {**asked, "asked_at": 0} == {
            "run_id": run.id, "number": 1, "workflow": "ship", "question": "Ship 3?", "schema": {"type": "boolean"},
            "to": "caller", "status": "open", "asked_at": 0, "details": {"count": 3},
        }  # fmt: skip
        assert (await questions.answer(run.id, 1, True)).answer == b"true"
        with run.hold():
            assert (await run.outcome()).value == "shipped"
        assert [(event.type, event.data) for event in run.events] == [
            ("workflow.started", None),
            ("workflow.question", {"number": 1, "question": "Ship 3?", "schema": {"type": "boolean"}, "to": "caller"}),
            ("workflow.answered", {"number": 1, "status": "answered"}),
            ("workflow.completed", None),
        ]
        (answered,) = await questions.of_run(run.id)
        assert answered.to_dict(with_answer=True)["answer"] is True
        assert await questions.page({}) == {"questions": []}


@pytest.mark.parametrize(
    ("schema", "given", "taken"),
    [
        (date, "2026-12-01", date(2026, 12, 1)),
        (Literal["a", "b"], "b", "b"),
        ({"type": "integer", "minimum": 3}, 3, 3),
        (list[int] | None, None, None),
        (float, 3, 3.0),
    ],
)
async def test_an_answer_is_what_the_schema_says(make: Any, schema: Any, given: Any, taken: Any) -> None:
    nexus, answers = make(), []

    @nexus.workflow
    async def work(context: Context) -> None:
        answers.append(await context.ask("?", schema))

    async with nexus:
        run = await waiting(nexus, "work")
        await (await questions_of(nexus)).answer(run.id, 1, given)
        await run.wait(SECONDS)
    assert answers == [taken]
    assert type(answers[0]) is type(taken)


async def test_what_does_not_fit_is_refused_and_the_question_stays_open(place: Any) -> None:
    nexus = place()

    @nexus.workflow
    async def work(context: Context) -> Any:
        return await context.ask("How many?", {"type": "object", "properties": {"count": {"type": "integer"}}})

    async with nexus:
        run = await waiting(nexus, "work")
        questions = await questions_of(nexus)
        with pytest.raises(ValidationError) as raised:
            await questions.answer(run.id, 1, {"count": "many"})
        assert [error["pointer"] for error in raised.value.errors] == ["/answer/count"]
        with pytest.raises(RequestTooLarge, match="answer has"):
            await questions.answer(run.id, 1, {"note": "x" * QUESTION_BYTES})
        for number, run_id in ((2, run.id), (1, "no such run")):
            with pytest.raises(QuestionNotFound):
                await questions.answer(run_id, number, {})
        await questions.answer(run.id, 1, {"count": 2})
        await run.wait(SECONDS)
        with pytest.raises(QuestionClosed) as closed:
            await questions.answer(run.id, 1, {"count": 3})
        assert closed.value.problem()["question_status"] == "answered"


async def test_one_of_many_answers_counts(place: Any) -> None:
    nexus = place()

    @nexus.workflow
    async def work(context: Context) -> int:
        return await context.ask("Which?", int)

    async with nexus:
        run = await waiting(nexus, "work")
        questions = await questions_of(nexus)
        with run.hold():
            outcomes = await asyncio.gather(
                *(questions.answer(run.id, 1, number) for number in range(5)), return_exceptions=True
            )
            refused = [each for each in outcomes if isinstance(each, QuestionClosed)]
            assert len(refused) == 4
            (counted,) = [each for each in outcomes if not isinstance(each, BaseException)]
            assert (await run.outcome()).json == counted.answer


async def test_a_waiting_run_takes_no_place_and_its_time_stands_still(place: Any) -> None:
    nexus = place(max_concurrent_workflows=1, workflow_timeout=0.5)

    @nexus.workflow
    async def patient(context: Context) -> float:
        before = context.remaining or 0.0
        await context.ask("Now?", bool)
        return before - (context.remaining or 0.0)

    @nexus.workflow
    async def busy() -> None:
        await asyncio.Event().wait()

    async with nexus:
        run = await waiting(nexus, "patient")
        for _ in range(2):  # each takes its whole time limit
            with pytest.raises(WorkflowTimeout):
                await nexus.invoke("busy")
            await eventually(lambda: nexus.places_in_use == 0)  # its task has ended, too
        assert run.status is RunStatus.WAITING
        await (await questions_of(nexus)).answer(run.id, 1, True)
        with run.hold():
            assert (await run.outcome()).value < 0.4
        assert nexus.places_in_use == 0


async def test_an_answered_run_waits_for_a_place(make: Any) -> None:
    nexus, release = make(max_concurrent_workflows=1), asyncio.Event()

    @nexus.workflow
    async def patient(context: Context) -> str:
        await context.ask("Now?", bool)
        return "went on"

    @nexus.workflow
    async def busy() -> None:
        await release.wait()

    async with nexus:
        run = await waiting(nexus, "patient")
        other = nexus.submit(Invocation("busy", {}))
        await other.started_or_rejected()
        await (await questions_of(nexus)).answer(run.id, 1, True)
        with pytest.raises(Overloaded):
            await nexus.invoke("busy")
        assert not run.ended
        release.set()
        with run.hold():
            assert (await run.outcome()).value == "went on"
        await other.wait(SECONDS)
        assert nexus.places_in_use == 0


async def test_a_time_limit_holds_again_after_the_answer(make: Any) -> None:
    nexus = make(workflow_timeout=0.3)

    @nexus.workflow
    async def slow(context: Context) -> None:
        await context.ask("Now?", bool)
        await asyncio.Event().wait()

    async with nexus:
        run = await waiting(nexus, "slow")
        await (await questions_of(nexus)).answer(run.id, 1, True)
        with run.hold(), pytest.raises(WorkflowTimeout):
            await run.outcome()


async def test_beyond_max_waiting_runs_a_run_keeps_its_place(make: Any) -> None:
    nexus = make(max_waiting_runs=1)

    @nexus.workflow
    async def patient(context: Context) -> None:
        await context.ask("Now?", bool)

    async with nexus:
        runs = [await waiting(nexus, "patient") for _ in range(3)]
        assert nexus.places_in_use == 2
        questions = await questions_of(nexus)
        for run in runs:
            await questions.answer(run.id, 1, True)
            assert await run.wait(SECONDS)
        assert nexus.places_in_use == 0


async def test_an_unanswered_question_expires(place: Any) -> None:
    nexus = place()

    @nexus.workflow
    async def fails(context: Context) -> str:
        return await context.ask("Anyone?", timeout=0.02)

    @nexus.workflow
    async def falls_back(context: Context) -> str:
        return await context.ask("Anyone?", timeout=0.02, default="no answer")

    @nexus.workflow
    async def handles(context: Context) -> str:
        try:
            return await context.ask("Anyone?", timeout=0.02)
        except QuestionExpired:
            return "handled"

    async with nexus:
        with pytest.raises(QuestionExpired, match=r'"Anyone\?" was not answered within 0.02 seconds') as raised:
            await nexus.invoke("fails")
        assert (raised.value.code, raised.value.status) == ("question_expired", 504)
        assert (await nexus.invoke("falls_back")).value == "no answer"
        result = await nexus.invoke("handles")
        assert result.value == "handled"
        with pytest.raises(QuestionClosed) as closed:
            await (await questions_of(nexus)).answer(result.run_id, 1, "late")
        assert closed.value.problem()["question_status"] == "expired"


async def test_a_cancelled_run_withdraws_its_question(place: Any) -> None:
    nexus = place()

    @nexus.workflow
    async def work(context: Context) -> str:
        return await context.ask("Anyone?")

    async with nexus:
        run = await waiting(nexus, "work")
        assert run.cancel()
        with run.hold(), pytest.raises(RunCancelled):
            await run.outcome()
        questions = await questions_of(nexus)
        with pytest.raises(QuestionClosed) as closed:
            await questions.answer(run.id, 1, "late")
        assert closed.value.problem()["question_status"] == "withdrawn"
        assert await questions.page({}) == {"questions": []}
        assert nexus.places_in_use == 0


async def test_a_workflow_may_stop_waiting_and_go_on(place: Any) -> None:
    nexus = place()

    @nexus.workflow
    async def work(context: Context) -> str:
        try:
            async with asyncio.timeout(0.02):
                return await context.ask("Anyone?")
        except TimeoutError:
            return await context.ask("Anyone else?")

    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        questions = await questions_of(nexus)
        await eventually(lambda: run.asked == 2 and run.status is RunStatus.WAITING)
        async with asyncio.timeout(SECONDS):
            while (await questions.get(run.id, 1)).is_open:
                await asyncio.sleep(0)
        await questions.answer(run.id, 2, "here")
        with run.hold():
            assert (await run.outcome()).value == "here"
        assert nexus.places_in_use == 0


async def test_several_questions_at_once(place: Any) -> None:
    nexus = place()

    @nexus.workflow
    async def work(context: Context) -> list[str]:
        return list(await asyncio.gather(*(context.ask(f"{number}?") for number in range(3))))

    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        questions = await questions_of(nexus)
        async with asyncio.timeout(SECONDS):
            while len((await questions.page({}))["questions"]) < 3:
                await asyncio.sleep(0)
        for number in (2, 3, 1):
            assert run.status is RunStatus.WAITING
            await questions.answer(run.id, number, f"answer {number}")
        with run.hold():
            assert (await run.outcome()).value == ["answer 1", "answer 2", "answer 3"]
        assert nexus.places_in_use == 0


async def test_sync_workflows_ask_in_their_thread(place: Any) -> None:
    nexus, told = place(), []

    @nexus.workflow
    def work(context: Context) -> int:
        return context.ask_sync("How many?", int, notify=lambda asked: told.append(threading.get_ident()))

    @nexus.workflow
    async def wrong(context: Context) -> int:
        return context.ask_sync("How many?", int)

    async with nexus:
        run = await waiting(nexus, "work")
        await (await questions_of(nexus)).answer(run.id, 1, 4)
        with run.hold():
            assert (await run.outcome()).value == 4
        run = await waiting(nexus, "work")
        run.cancel()
        with run.hold(), pytest.raises(RunCancelled):
            await run.outcome()
        with pytest.raises(NexusError):
            await nexus.invoke("wrong")
    assert told == [threading.get_ident()] * 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"question": 3}, TypeError, "question must be a text, not int"),
        ({"question": " "}, ValueError, "question must have 1 to 2000 characters"),
        ({"question": "x" * 2001}, ValueError, "question must have 1 to 2000 characters"),
        ({"question": "\ud800?"}, ValueError, "question must not have lone surrogates"),
        ({"to": "ann"}, ValueError, "to must be 'caller', 'user:' and a user id"),
        ({"to": "user:"}, ValueError, "to must be 'caller'"),
        ({"to": 3}, TypeError, "to must be a text, not int"),
        ({"timeout": 0}, ValueError, "timeout must be above 0"),
        ({"timeout": 1e12}, ValueError, "at most 31536000 seconds"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds"),
        ({"details": [1]}, TypeError, "details must be a dict, not list"),
        ({"details": {"a": "x" * 70_000}}, ValueError, "schema and details have more than 65536 bytes"),
        ({"details": {"a": object()}}, TypeError, "object"),
        ({"notify": "me"}, TypeError, "notify must be a function, not str"),
        ({"schema": {"type": "nonsense"}}, ConfigurationError, "JSON Schema is not valid"),
        ({"schema": object()}, ConfigurationError, "has no JSON form"),
    ],
)
async def test_wrong_arguments_are_named(make: Any, arguments: dict[str, Any], error: Any, message: str) -> None:
    nexus, raised = make(), []

    @nexus.workflow
    async def work(context: Context) -> None:
        try:
            await context.ask(**({"question": "?"} | arguments))
        except Exception as exc:
            raised.append(exc)

    async with nexus:
        result = await nexus.invoke("work")
        assert await (await questions_of(nexus)).of_run(result.run_id) == []
    (exc,) = raised
    assert isinstance(exc, error)
    assert message in str(exc)


async def test_a_run_asks_a_bounded_number_of_questions(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "QUESTIONS_OF_RUN", 2)
    nexus = make()

    @nexus.workflow
    async def work(context: Context) -> str:
        for _ in range(2):
            await context.ask("?", timeout=0.001, default="")
        with pytest.raises(ValueError, match="at most 2 questions"):
            await context.ask("?")
        return "done"

    async with nexus:
        assert (await nexus.invoke("work")).value == "done"


async def test_notify_that_never_ends_holds_up_no_answer(place: Any) -> None:
    nexus, ended = place(), []

    async def hang(asked: asking.Asked) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(asked.question.number)

    @nexus.workflow
    async def work(context: Context) -> list[str]:
        first = await context.ask("?", timeout=0.02, default="late", notify=hang)
        return [first, await context.ask("?", notify=hang)]

    async with nexus:
        run = await waiting(nexus, "work")
        async with asyncio.timeout(SECONDS):
            while ended != [1] or not (await (await questions_of(nexus)).find()):
                await asyncio.sleep(0)
        await (await questions_of(nexus)).answer(run.id, 2, "yes")
        with run.hold():
            assert (await run.outcome()).value == ["late", "yes"]
    assert ended == [1, 2]


async def test_notify_that_fails_withdraws_the_question(place: Any) -> None:
    nexus = place()

    async def fail(asked: asking.Asked) -> None:
        raise OSError("no mail today")

    @nexus.workflow
    async def work(context: Context) -> str:
        try:
            return await context.ask("?", notify=fail)
        except OSError:
            return "no mail"

    async with nexus:
        result = await nexus.invoke("work")
        assert result.value == "no mail"
        questions = await questions_of(nexus)
        async with asyncio.timeout(SECONDS):
            while (await questions.get(result.run_id, 1)).is_open:
                await asyncio.sleep(0)


ANN = Principal("ann", frozenset({"runs.see"}), tenant_id="t")
BOB = Principal("bob", frozenset({"ship"}), tenant_id="t")
EVE = Principal("eve", frozenset({"ship"}), tenant_id="u")
BOB_ELSEWHERE = Principal("bob", frozenset({"ship"}), tenant_id="u")
OPERATOR = Principal("opal", frozenset({"nexus.operate"}))


@pytest.mark.parametrize(
    ("to", "may"),
    [("caller", [ANN]), ("user:bob", [BOB]), ("permission:ship", [BOB]), ("permission:runs.see", [ANN])],
)
async def test_only_who_is_asked_may_answer(place: Any, to: str, may: list[Principal]) -> None:
    nexus = place(Grants())

    @nexus.workflow
    async def work(context: Context) -> str:
        return await context.ask("?", to=to)

    async with nexus:
        run = await waiting(nexus, "work", principal=ANN)
        for principal in (ANN, BOB, EVE, BOB_ELSEWHERE, OPERATOR):
            questions = await questions_of(nexus, principal)
            listed = [each["run_id"] for each in (await questions.page({}))["questions"]]
            assert listed == ([run.id] if principal in may else [])
            if principal in may:
                continue
            sees = principal in (ANN, OPERATOR)  # the run's own caller, and operators
            with pytest.raises(PermissionDenied if sees else QuestionNotFound):
                await questions.answer(run.id, 1, "no")
            if sees:
                assert (await questions.get(run.id, 1)).to == to
            else:
                with pytest.raises(QuestionNotFound):
                    await questions.get(run.id, 1)
        operator = await questions_of(nexus, OPERATOR)
        assert len((await operator.page({"caller": "*"}))["questions"]) == 1
        with pytest.raises(PermissionDenied):
            await (await questions_of(nexus, BOB)).page({"caller": "*"})
        answered = await (await questions_of(nexus, may[0])).answer(run.id, 1, "yes")
        assert answered.answered_by == may[0].user_id
        with run.hold():
            assert (await run.outcome()).value == "yes"


def test_audiences_of_different_tenants_differ() -> None:
    tenants = [None, "", "a", "a:b", "a/", ":"]
    names = ["p", ":p", "a:p", "/:p"]
    audiences = {(tenant, name): permission_audience(tenant, name) for tenant in tenants for name in names}
    assert len({*audiences.values()}) == len(audiences)
    for (tenant, name), audience in audiences.items():
        assert [(other, permission_of(audience, other)) for other in tenants if permission_of(audience, other)] == [
            (tenant, name)
        ]
        assert permission_of(audience_of("user:" + name, None), tenant) is None


async def test_pages_and_their_arguments(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def work(context: Context) -> None:
        await context.ask("?")

    async with nexus:
        runs = [await waiting(nexus, "work") for _ in range(3)]
        questions = await questions_of(nexus)
        first = await questions.page({"limit": "2"})
        rest = await questions.page({"limit": 2, "after": first["next"]})
        assert [each["run_id"] for each in first["questions"] + rest["questions"]] == [run.id for run in runs]
        assert "next" not in rest
        for asked, message in (
            ({"limit": 0}, "limit must be from 1 to 1000"),
            ({"limit": "many"}, "limit must be a whole number"),
            ({"after": "x"}, "after is not a cursor"),
            ({"after": "1.0-\0-1"}, "after is not a cursor"),
            ({"after": 3}, "after must be a string"),
            ({"caller": "ann"}, r"caller must be \*"),
        ):
            with pytest.raises(MalformedRequest, match=message):
                await questions.page(asked)
        for run in runs:
            run.cancel()


class Answers(Channel):
    name = "door"
    answers = "/api/answers"


class GivesChannel:
    @hookimpl
    def nexus_register_channels(self) -> list[Any]:
        return [Answers()]


async def test_a_link_answers_once(place: Any) -> None:
    nexus, asked = place(GivesChannel(), public_url="https://example.com/n/"), []

    @nexus.workflow
    async def work(context: Context) -> str:
        return await context.ask("?", to="user:boss", notify=asked.append)

    async with nexus:
        run = await waiting(nexus, "work")
        token = asked[0].token
        assert asked[0].link == f"https://example.com/n/api/answers/{token}"
        secret = token.rpartition(".")[2]
        for forged in (
            "", ".", "..", token[:-1], token + "x", f"{run.id}.2.{secret}", f"{run.id}.x.{secret}", f"{run.id}.1.",
            f"{run.id}.٣.{secret}", f"x.1.{secret}", f"\0.1.{secret}", f"{run.id}.1.\ud800",
            f"{run.id}.{'9' * 50}.{secret}",
        ):  # fmt: skip
            with pytest.raises(QuestionNotFound):
                await nexus.linked_question(forged)
        linked, again = await nexus.linked_question(token), await nexus.linked_question(token)
        assert linked.question.text == "?"
        assert secret not in repr(linked.question.to_dict())
        with pytest.raises(ValidationError):
            await linked.answer(3)
        assert (await linked.answer("yes")).answered_by == "link"
        with pytest.raises(QuestionClosed):
            await again.answer("no")
        with run.hold():
            assert (await run.outcome()).value == "yes"
        with pytest.raises(QuestionClosed):
            await (await nexus.linked_question(token)).answer("no")


@pytest.mark.parametrize(
    ("plugins", "options", "message"),
    [
        ((), {"public_url": "https://example.com"}, "no active channel"),
        ((GivesChannel(),), {}, "public_url must be set"),
    ],
)
async def test_a_link_that_cannot_be_made_says_why(make: Any, plugins: Any, options: Any, message: str) -> None:
    nexus, reasons = make(*plugins, **options), []

    def tell(asked: asking.Asked) -> None:
        with pytest.raises(ConfigurationError, match=message) as raised:
            _ = asked.link
        reasons.append(raised.value)

    @nexus.workflow
    async def work(context: Context) -> None:
        await context.ask("?", timeout=0.01, default="", notify=tell)

    async with nexus:
        await nexus.invoke("work")
    assert len(reasons) == 1


async def test_a_call_is_handed_over_when_it_waits(make: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def work(context: Context) -> str:
        return await context.ask("?")

    async with nexus:
        run = await nexus.invoke_within(Invocation("work", {}), 3600)
        assert isinstance(run, Run)
        assert run.status is RunStatus.WAITING
        await (await questions_of(nexus)).answer(run.id, 1, "yes")
        assert (await run.outcome()).value == "yes"


async def test_a_store_that_is_away_delays_questions_and_answers(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "RETRY_SECONDS", 0.01)
    gives = Gives()
    nexus, begun, may_ask = make(gives, run_store="kept"), asyncio.Event(), asyncio.Event()

    @nexus.workflow
    async def work(context: Context) -> str:
        begun.set()
        await may_ask.wait()
        return await context.ask("?")

    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        await begun.wait()
        gives.store.is_away = True
        may_ask.set()
        await asyncio.sleep(0.05)
        assert run.status is RunStatus.RUNNING
        gives.store.is_away = False
        await run.settled(SECONDS)
        questions = await questions_of(nexus)
        gives.store.is_away = True
        with pytest.raises(BackendUnavailable):
            await questions.answer(run.id, 1, "lost")
        gives.store.is_away = False
        await questions.answer(run.id, 1, "yes")
        with run.hold():
            assert (await run.outcome()).value == "yes"


async def test_a_plain_call_that_asks_is_stored_whatever_the_scope(make: Any) -> None:
    gives = Gives()
    nexus = make(gives, run_store="kept", run_store_scope="background")

    @nexus.workflow
    async def work(context: Context) -> str:
        return await context.ask("?")

    async with nexus:
        call = asyncio.create_task(nexus.invoke("work"))
        questions = await questions_of(nexus)
        async with asyncio.timeout(SECONDS):
            while not (page := await questions.page({}))["questions"]:
                await asyncio.sleep(0)
        run_id = page["questions"][0]["run_id"]
        state = await gives.store.get(run_id)
        assert state is not None
        assert state.status is RunStatus.WAITING
        await questions.answer(run_id, 1, "yes")
        assert (await call).value == "yes"
        state = await gives.store.get(run_id)
        assert state is not None
        assert state.status is RunStatus.COMPLETED


async def test_a_stop_does_not_wait_for_answers(make: Any) -> None:
    nexus = make(shutdown_grace=3600)

    @nexus.workflow
    async def work(context: Context) -> str:
        return await context.ask("?")

    @nexus.workflow
    def work_in_a_thread(context: Context) -> str:
        return context.ask_sync("?")

    async with nexus:
        runs = [await waiting(nexus, name) for name in ("work", "work_in_a_thread")]
        async with asyncio.timeout(SECONDS):
            await nexus.__aexit__(None, None, None)
        assert [run.status for run in runs] == [RunStatus.CANCELLED] * 2
        assert nexus.places_in_use == 0
