"""Stages of third-party plugins: what they do wrong ends their call alone, and is logged under their names."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import (
    Caller,
    ConfigurationError,
    Invocation,
    NexusError,
    Result,
    RunCancelled,
    Stage,
    WorkflowTimeout,
    hookimpl,
)
from nexus_core.events.event import WORKFLOW_COMPLETED
from nexus_core.events.handlers import EventHandler
from nexus_core.plugins.discovery import PluginStatus
from nexus_core.server.channel import ASGIApp, Receive, Route, Scope, Send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core.pipeline.stage import Call


ENDS = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(), MemoryError()]


class Plugin:
    """Gives what it was given to one hook each."""

    def __init__(self, **given: Any) -> None:
        self.given = given

    @hookimpl
    def nexus_register_interceptors(self) -> Any:
        return self.given.get("interceptors")

    @hookimpl
    def nexus_register_authorizers(self) -> Any:
        return self.given.get("authorizers")

    @hookimpl
    def nexus_register_middleware(self) -> Any:
        return self.given.get("middleware")

    @hookimpl
    def nexus_register_routes(self) -> Any:
        return self.given.get("routes")

    @hookimpl
    def nexus_register_event_handlers(self) -> Any:
        return self.given.get("handlers")


class Base:
    stage = Stage.OBSERVE


@pytest.mark.parametrize("exception", [*ENDS, ValueError("no")], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("place", ["before", "after"])
async def test_an_interceptor_that_raises_ends_its_call_alone(
    make: Any, caplog: Any, exception: BaseException, place: str
) -> None:
    class Raising(Base):
        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            if invocation.params["fails"] and place == "before":
                raise exception
            result = await call_next(invocation)
            if invocation.params["fails"]:
                raise exception
            return result

    nexus = make(Plugin(interceptors=[Raising()]))
    nexus.register("w", lambda fails: 1)
    async with nexus:
        for _ in range(3):
            with pytest.raises(NexusError) as caught:
                await nexus.invoke("w", {"fails": True})
            assert caught.value.code == "internal_error"
        assert (await nexus.invoke("w", {"fails": False})).value == 1
    lines = [each for each in caplog.messages if "interceptor" in each]
    assert len(lines) == 1  # the others are counted
    assert lines[0].startswith('The interceptor Raising of the plugin "Plugin" raised: ')


async def test_what_comes_through_it_is_not_its_fault(make: Any, caplog: Any) -> None:
    class Passing(Base):
        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            return await call_next(invocation)

    class Inner(Base):
        stage = Stage.BREAKER

        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            raise ValueError("inner")

    nexus = make(Plugin(interceptors=[Passing(), Inner()]))
    nexus.register("w", lambda: 1)
    async with nexus:
        with pytest.raises(NexusError):
            await nexus.invoke("w")
    assert "Inner" in caplog.text
    assert "Passing" not in caplog.text


FORGOTTEN = {
    "return": "returned None: `return` is missing. Write `return await call_next(invocation)`",
    "await": "returned a coroutine: `await` is missing. Write `return await call_next(invocation)`",
    "both": "returned None and did not wait for the call: `return await` is missing before `call_next(invocation)`",
    "call": "returned None and did not pass the call on: return a Result, or raise a NexusError",
    "value": "returned a int and not a Result: return what `await call_next(invocation)` returns",
}


@pytest.mark.parametrize("forgotten", FORGOTTEN)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_an_interceptor_that_forgets_something_is_told_what(make: Any, caplog: Any, forgotten: str) -> None:
    class Forgetful(Base):
        async def __call__(self, invocation: Invocation, call_next: Call) -> Any:
            if forgotten == "return":
                await call_next(invocation)
            elif forgotten == "await":
                return call_next(invocation)
            elif forgotten == "both":
                call_next(invocation)  # type: ignore[unused-coroutine]
            elif forgotten == "value":
                return (await call_next(invocation)).value
            return None

    nexus = make(Plugin(interceptors=[Forgetful()]))
    nexus.register("w", lambda: 1)
    async with nexus:
        with pytest.raises(NexusError) as caught:
            await nexus.invoke("w")
    assert caught.value.code == "internal_error"
    assert f'The interceptor Forgetful of the plugin "Plugin" {FORGOTTEN[forgotten]}' in caplog.messages


async def test_one_without_async_may_return_what_it_was_given(make: Any) -> None:
    class Plain(Base):
        def __call__(self, invocation: Invocation, call_next: Call) -> Any:
            return call_next(invocation)

    nexus = make(Plugin(interceptors=[Plain()]))
    nexus.register("w", lambda: 1)
    async with nexus:
        assert (await nexus.invoke("w")).value == 1


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("wish", [None, 0.1])
async def test_an_interceptor_that_hangs_has_a_time_limit(
    make: Any, caplog: Any, place: str, wish: float | None
) -> None:
    class Hanging(Base):
        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            if place == "after":
                await call_next(invocation)
            return await asyncio.Event().wait()  # type: ignore[return-value]

    nexus = make(Plugin(interceptors=[Hanging()]), workflow_timeout=0.2 if wish is None else 300)
    nexus.register("w", lambda: 1)
    async with nexus:
        with pytest.raises(WorkflowTimeout):
            await asyncio.wait_for(nexus.invoke(Invocation("w", {}, timeout=wish)), 20)
        assert nexus.places_in_use == 0
    assert 'The interceptor Hanging of the plugin "Plugin" did not end within' in caplog.text


async def test_its_time_limit_is_not_the_workflows(make: Any) -> None:
    class Passing(Base):
        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            return await call_next(invocation)

    async def slow() -> int:
        await asyncio.sleep(0.5)
        return 1

    nexus = make(Plugin(interceptors=[Passing()]), workflow_timeout=0.1)
    nexus.register("w", slow, {"timeout": 30})
    async with nexus:
        assert (await nexus.invoke("w")).value == 1


async def test_a_time_limit_that_is_none_is_refused_as_without_it(make: Any) -> None:
    class Slow(Base):
        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            await asyncio.sleep(0.05)
            return await call_next(invocation)

    refusals = []
    for interceptors in ([], [Slow()]):
        nexus = make(Plugin(interceptors=interceptors))
        nexus.register("w", lambda: 1)
        async with nexus:
            with pytest.raises(NexusError) as caught:
                await nexus.invoke(Invocation("w", {}, timeout=0))
        refusals.append(caught.value.problem() | {"run_id": None})
    assert refusals[0] == refusals[1]


async def test_a_call_that_is_cancelled_meanwhile_is_cancelled(make: Any) -> None:
    reached = asyncio.Event()

    class Hanging(Base):
        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            reached.set()
            return await asyncio.Event().wait()  # type: ignore[return-value]

    nexus = make(Plugin(interceptors=[Hanging()]))
    nexus.register("w", lambda: 1)
    async with nexus:
        run = nexus.submit(Invocation("w", {}))
        await reached.wait()
        run.cancel()
        with pytest.raises(RunCancelled):
            await asyncio.wait_for(run.outcome(), 20)


@pytest.mark.parametrize("exception", [*ENDS[:2], ValueError(), TimeoutError()], ids=lambda each: type(each).__name__)
async def test_an_authorizer_grants_nothing_when_it_fails(make: Any, caplog: Any, exception: BaseException) -> None:
    class Failing:
        async def granted(self, principal: object, permissions: frozenset[str]) -> frozenset[str]:
            raise exception

    nexus = make(Plugin(authorizers=[Failing()]))
    nexus.register("w", lambda: 1, {"required_permissions": ["p"]})
    async with nexus:
        with pytest.raises(NexusError) as caught:
            await nexus.invoke("w")
        assert caught.value.code == "internal_error"
        view = await nexus.view(Caller())
        with pytest.raises(NexusError):
            await view.workflows()
    assert 'The authorizer Failing of the plugin "Plugin" raised: ' in caplog.text


async def test_an_authorizer_that_hangs_has_a_time_limit(make: Any) -> None:
    class Hanging:
        async def granted(self, principal: object, permissions: frozenset[str]) -> Any:
            await asyncio.Event().wait()

    nexus = make(Plugin(authorizers=[Hanging()]), workflow_timeout=0.2)
    nexus.register("w", lambda: 1, {"required_permissions": ["p"]})
    async with nexus:
        with pytest.raises(WorkflowTimeout):
            await asyncio.wait_for(nexus.invoke("w"), 20)


@pytest.mark.parametrize("exception", ENDS[:2], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_middleware_that_raises_ends_its_request_alone(make: Any, exception: BaseException, kind: str) -> None:
    def middleware(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            raise exception

        return answer

    nexus = make(Plugin(middleware=[middleware], routes=[Route("/", middleware, "none")]))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "path": "/", "method": "GET", "headers": [], "http_version": "1.1"}
    async with nexus:
        app = nexus.asgi_app()
        if kind == "http":
            await app(scope, None, send)  # type: ignore[arg-type]
            assert sent[0]["status"] == 500
        else:
            with pytest.raises(RuntimeError, match="the application raised"):
                await app(scope, None, send)  # type: ignore[arg-type]


async def test_an_event_handler_whose_method_for_raises_harms_no_call(make: Any, caplog: Any) -> None:
    class Broken(EventHandler):
        def method_for(self, event: Any) -> Any:
            raise SystemExit(3)

    told: list[str] = []
    nexus = make(Plugin(handlers=[Broken(), lambda event: told.append(event.type)]))
    nexus.register("w", lambda: 1)
    async with nexus:
        for _ in range(5):
            assert (await nexus.invoke("w")).value == 1
    assert told.count(WORKFLOW_COMPLETED) == 5
    assert caplog.text.count("Broken raised in method_for: SystemExit: 3") == 1


async def test_a_handler_that_raises_costs_a_line(make: Any, caplog: Any) -> None:
    def failing(event: Any) -> None:
        raise ValueError("broken")

    nexus = make(Plugin(handlers=[failing]))
    nexus.register("w", lambda: 1)
    async with nexus:
        for _ in range(20):
            await nexus.invoke("w")
    lines = [each for each in caplog.text.splitlines() if "failing" in each or "Traceback" in each]
    assert len(lines) == 2  # of one started, and one completed
    assert all("raised on workflow." in each and "ValueError: broken (test_third_party.py:" in each for each in lines)


async def test_a_start_that_blocks_the_loop_is_named_and_fails(make: Any, caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("nexus_core.concurrency.watchdog.NAMED_SECONDS", 0.2)

    class Blocking:
        @hookimpl
        async def nexus_startup(self) -> None:
            time.sleep(1)

    nexus = make(Blocking(), plugin_timeout=0.3)
    async with nexus:
        (record,) = nexus.plugins.records
        assert record.status is PluginStatus.FAILED
        assert "it blocked the event loop for 1." in record.reason
    assert any(
        each.startswith('The plugin "Blocking": nexus_startup blocks the event loop, in nexus_startup (')
        for each in caplog.messages
    )


def test_a_hook_that_never_ends_fails_its_plugin(make: Any) -> None:
    class Endless:
        @hookimpl
        def nexus_register_metrics_collectors(self) -> Iterator[object]:
            return itertools.repeat(object())

    nexus = make(Endless())
    with pytest.raises(ConfigurationError, match="no service 'metrics_collector'"):
        nexus.metrics_collector  # noqa: B018
    assert "it returned more than 10000 objects" in nexus.plugins.records[0].reason


class Impatient(Base):
    """Leaves the call that it passes on behind."""

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        self.left = asyncio.ensure_future(call_next(invocation))
        await asyncio.wait({self.left}, timeout=0.05)
        return Result(b'"instead"', invocation.run.id)


class Twice(Base):
    """Passes the call on twice at a time."""

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        first, _ = await asyncio.gather(call_next(invocation), call_next(invocation))
        return first


@pytest.mark.parametrize("interceptor", [Impatient(), Twice()], ids=lambda each: type(each).__name__)
async def test_time_limits_of_an_interceptor_end_with_it(make: Any, interceptor: Any) -> None:
    nexus = make(Plugin(interceptors=[interceptor]), workflow_timeout=0.3)

    @nexus.workflow
    async def work() -> int:
        await asyncio.sleep(0.1)
        return 1

    async with nexus:
        await nexus.invoke("work")
        await asyncio.sleep(0.8)  # nothing cancels what its caller does next


class Odd(BaseException):
    """Neither an error nor a request to end."""


@pytest.mark.parametrize("exception", [asyncio.CancelledError(), Odd(), SystemExit()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("hook", ["authorizers", "interceptors"])
async def test_what_is_no_exception_ends_its_call_alone(make: Any, hook: str, exception: BaseException) -> None:
    class Raising(Base):
        async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
            raise exception

        async def granted(self, principal: Any, permissions: Any) -> Any:
            raise exception

    nexus = make(Plugin(**{hook: [Raising()]}), insecure=True)
    nexus.register("work", lambda: 1, {"required_permissions": ["a"]})
    async with nexus:
        run = nexus.submit(Invocation("work", {}))
        with pytest.raises(NexusError) as caught:
            await run.outcome()
        assert (caught.value.code, run.status) == ("internal_error", "failed")
