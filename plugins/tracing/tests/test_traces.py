"""Traces of calls in process, as a collector that decodes them gets them."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus_core import Caller, Context, Invocation, NexusError, Principal, Stage, WorkflowError, hookimpl
from nexus_core.testing import eventually, stages_of
from nexus_core.types.trace import current_trace, parse_traceparent, span, trace_headers

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEPT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
PASSED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
ERROR = 2


def add_headers(nexus):
    @nexus.workflow
    async def headers() -> dict[str, str]:
        return trace_headers()


async def refused(nexus, *args):
    with pytest.raises(NexusError) as caught:
        await nexus.invoke(*args)
    return caught.value


async def test_a_call_is_part_of_its_callers_trace(make, spans):
    nexus = make()
    add_headers(nexus)
    async with nexus:
        call = Invocation("headers", {}, "api", trace=KEPT | {"tracestate": "a=1,b=2"}, client_address="10.0.0.7")
        result = await nexus.invoke(call)
    root = spans.one("workflow headers")
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    assert root.kind == 2  # server
    assert root.trace_state == "a=1,b=2"
    assert spans.attributes(root) == {
        "nexus.workflow": "headers", "nexus.channel": "api", "nexus.run_id": result.run_id,
        "nexus.outcome": "completed", "client.address": "10.0.0.7",
    }  # fmt: skip
    execute = spans.one("execute")
    assert spans.parent(execute) == root
    assert result.value == {
        "traceparent": f"00-{TRACE}-{execute.span_id.hex()}-01", "tracestate": "a=1,b=2",
    }  # fmt: skip
    assert {each.trace_id.hex() for each in spans.all} == {TRACE}
    assert current_trace.get() is None


async def test_without_a_caller_it_begins_one(make, spans):
    nexus = make()
    add_headers(nexus)
    async with nexus:
        await nexus.invoke("headers")
        await nexus.invoke("headers")
    first, second = spans.named("workflow headers")
    assert first.parent_span_id == b""
    assert first.trace_id != second.trace_id
    assert first.kind == 1  # internal


async def test_stages_that_a_call_needs_are_spans(make, spans):
    class Known:
        __name__ = "known"
        stage = Stage.AUTHENTICATE

        @hookimpl
        def nexus_register_interceptors(self, nexus):
            return [self]

        async def __call__(self, invocation, call_next):
            invocation.principal = Principal("ann", tenant_id="acme")
            with span("look up"):
                await asyncio.sleep(0)
            return await call_next(invocation)

    nexus = make(Known())
    add_headers(nexus)
    async with nexus:
        session = await (await nexus.view(Caller())).create_session("api")
        await nexus.invoke("headers")
        await nexus.invoke(Invocation("headers", {}, "api", session_id=session.id, idempotency_key="k"))
    names = [each.name for each in sorted(spans.all, key=lambda each: each.start_time_unix_nano)]
    stages = ["authenticate", "look up", "resolve", "execute"]
    with_session = ["authenticate", "look up", "session", "resolve", "idempotency", "execute"]
    assert names == ["workflow headers", *stages, "workflow headers", *with_session]
    assert all(spans.ancestors(each) == ["authenticate", "workflow headers"] for each in spans.named("look up"))
    assert spans.attributes(spans.named("workflow headers")[1])["user.id"] == "ann"
    assert spans.attributes(spans.named("workflow headers")[1])["nexus.tenant_id"] == "acme"
    for each in spans.all:
        assert each.end_time_unix_nano >= each.start_time_unix_nano


async def test_steps_of_a_workflow_in_threads_and_tasks(make, spans):
    nexus = make()

    @nexus.workflow
    def in_a_thread(context: Context) -> str:
        with context.span("read", rows=3, table="people", flag=True, none=None, other=[1]), span("parse"):
            return context.trace_headers()["traceparent"]

    @nexus.workflow
    async def in_tasks(context: Context) -> None:
        async def step(number):
            with context.span("step", number=number):
                await asyncio.sleep(0.001)

        await asyncio.gather(*(step(number) for number in range(3)))

    async with nexus:
        traceparent = (await nexus.invoke("in_a_thread")).value
        await nexus.invoke("in_tasks")
    parse = spans.one("parse")
    assert traceparent.split("-")[2] == parse.span_id.hex()
    assert spans.ancestors(parse) == ["read", "execute", "workflow in_a_thread"]
    assert spans.attributes(spans.one("read")) == {"rows": 3, "table": "people", "flag": True, "other": "[1]"}
    assert all(spans.ancestors(each) == ["execute", "workflow in_tasks"] for each in spans.named("step"))
    assert len(spans.named("step")) == 3


async def test_workflows_that_workflows_call(make, spans):
    nexus = make()
    add_headers(nexus)

    @nexus.workflow
    async def outer() -> None:
        await nexus.invoke("headers")
        run = nexus.submit(Invocation("headers", {}))
        await run.outcome()

    @nexus.workflow
    def from_a_loop_of_its_own() -> None:
        asyncio.run(nexus.invoke("headers"))

    async with nexus:
        await nexus.invoke("outer")
        await nexus.invoke("from_a_loop_of_its_own")
    first, second, third = spans.named("workflow headers")
    for each in (first, second):
        assert spans.ancestors(each) == ["execute", "workflow outer"]
    assert spans.ancestors(third) == ["execute", "workflow from_a_loop_of_its_own"]


async def test_spans_of_opentelemetrys_own_join(make, spans):
    from opentelemetry import trace

    nexus = make()
    seen = []

    @nexus.workflow
    def work() -> None:
        seen.append(trace.get_current_span().get_span_context())

    async with nexus:
        await nexus.invoke(Invocation("work", {}, trace=KEPT))
        assert not trace.get_current_span().get_span_context().is_valid
    assert f"{seen[0].trace_id:032x}" == TRACE
    assert f"{seen[0].span_id:016x}" == spans.one("execute").span_id.hex()


async def test_a_program_that_is_traced_itself(make, spans):
    from opentelemetry.sdk.trace import TracerProvider

    nexus = make(tracing_sample_ratio=0)
    add_headers(nexus)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("program")
    async with nexus:
        with tracer.start_as_current_span("request") as request:
            await nexus.invoke("headers")
    root = spans.one("workflow headers")
    assert root.trace_id.hex() == f"{request.get_span_context().trace_id:032x}"
    assert root.parent_span_id.hex() == f"{request.get_span_context().span_id:016x}"


async def test_what_becomes_of_calls(make, spans):
    nexus = make()
    begun = asyncio.Event()

    @nexus.workflow
    async def work(how: str = "") -> int:
        begun.set()
        match how:
            case "raise":
                raise ValueError("password=hunter2")
            case "tell":
                error = type("Teapot", (WorkflowError,), {"status": 418})
                raise error("I am a teapot")
            case "step":
                with span("step"):
                    raise KeyError("hunter2")
            case "wait":
                await asyncio.Event().wait()
        return 7

    def latest():
        return spans.named("workflow work")[-1]

    async with nexus:
        for how, outcome, code, is_error in (
            ("raise", "failed", "workflow_failed", True),
            ("tell", "failed", "workflow_error", False),
            ("step", "failed", "workflow_failed", True),
        ):
            count = len(spans.named("workflow work"))
            await refused(nexus, "work", {"how": how})
            await eventually(lambda count=count: len(spans.named("workflow work")) > count)
            found = spans.attributes(latest())
            assert (found["nexus.outcome"], found["nexus.code"]) == (outcome, code)
            assert (latest().status.code == ERROR) is is_error
        begun.clear()
        task = asyncio.create_task(nexus.invoke("work", {"how": "wait"}))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await refused(nexus, "work", {"wrong": "hunter2"})
        await refused(nexus, "unknown\nname" + "x" * 1000)
        await nexus.invoke(Invocation("work", {}, idempotency_key="k"))
        await nexus.invoke(Invocation("work", {}, idempotency_key="k"))
    step = spans.one("step")
    assert (step.status.code, spans.attributes(step)) == (ERROR, {"error.type": "KeyError"})
    outcomes = [spans.attributes(each)["nexus.outcome"] for each in spans.named("workflow work")]
    assert outcomes == ["failed", "failed", "failed", "cancelled", "refused", "completed", "completed"]
    assert spans.attributes(latest())["nexus.replayed"] is True
    unknown = spans.attributes(spans.one("unknown workflow"))["nexus.workflow"]
    assert len(unknown) == 200
    assert unknown.isprintable()
    assert "hunter2" not in str(spans.all)


async def test_a_traceparent_that_is_none_counts_as_none(make, spans):
    from opentelemetry.sdk.trace import TracerProvider

    nexus = make(tracing_sample_ratio=0)
    add_headers(nexus)
    wrong = {"traceparent": "00-wrong", "tracestate": "a=1"}
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("program")
    async with nexus:
        found = (await nexus.invoke(Invocation("headers", {}, trace=wrong))).value
        assert found.keys() == {"traceparent"}  # a tracestate without its traceparent means nothing
        with tracer.start_as_current_span("request") as request:
            await nexus.invoke(Invocation("headers", {}, trace=wrong))
    root = spans.one("workflow headers")
    assert root.parent_span_id.hex() == f"{request.get_span_context().span_id:016x}"


async def test_what_is_open_around_a_start_is_not_taken_for_a_caller(make, spans):
    from opentelemetry import trace

    nexus = make(tracing_trust_parent=False)
    add_headers(nexus)
    passed = trace.SpanContext(1, 2, False, trace.TraceFlags(0))
    async with nexus:
        with trace.use_span(trace.NonRecordingSpan(passed)):
            await nexus.invoke("headers")
    assert spans.one("workflow headers").trace_id.hex() == f"{1:032x}"


class TestSampling:
    async def test_callers_decide(self, make, spans):
        nexus = make(tracing_sample_ratio=0)
        add_headers(nexus)
        async with nexus:
            assert (await nexus.invoke(Invocation("headers", {}, trace=KEPT))).value
            handed_on = (await nexus.invoke(Invocation("headers", {}, trace=PASSED | {"tracestate": "a=1"}))).value
        assert len(spans.named("workflow headers")) == 1
        assert handed_on == PASSED | {"tracestate": "a=1"}

    async def test_unless_they_are_not_trusted(self, make, spans):
        nexus = make(tracing_sample_ratio=0, tracing_trust_parent=False)
        add_headers(nexus)
        async with nexus:
            assert (await nexus.invoke(Invocation("headers", {}, trace=KEPT))).value == PASSED
        assert spans.all == []
        nexus = make(tracing_trust_parent=False)
        add_headers(nexus)
        async with nexus:
            await nexus.invoke(Invocation("headers", {}, trace=PASSED))
        assert spans.one("workflow headers").trace_id.hex() == TRACE

    async def test_what_a_call_that_is_not_kept_calls_is_not_kept_either(self, make, spans):
        nexus = make(tracing_sample_ratio=0.5)
        add_headers(nexus)

        @nexus.workflow
        async def outer() -> list[dict[str, str]]:
            return [trace_headers(), *[(await nexus.invoke("headers")).value for _ in range(5)]]

        async with nexus:
            for _ in range(20):
                found = (await nexus.invoke("outer")).value
                assert len({each["traceparent"].split("-")[1] for each in found}) == 1
                assert len({each["traceparent"].split("-")[3] for each in found}) == 1
        assert len(spans.named("workflow headers")) == 5 * len(spans.named("workflow outer"))

    def test_the_ratio(self):
        from nexus_tracing.tracing import Tracing

        class SpanProvider:
            def embedding(self):
                return None

        chance = random.Random(7).random
        tracing = Tracing(SpanProvider(), ratio=0.01, trusts_parent=True, propagates=False, random=chance)
        kept = [tracing.is_recorded(None) for _ in range(100_000)]
        assert 870 < sum(kept) < 1130  # four standard deviations

    async def test_the_ends_of_the_ratio(self, make, spans):
        for ratio, count in ((0, 0), (1, 50)):
            nexus = make(tracing_sample_ratio=ratio)
            add_headers(nexus)
            async with nexus:
                for _ in range(50):
                    await nexus.invoke("headers")
            assert len(spans.named("workflow headers")) == count

    async def test_off_there_is_nothing(self, make, spans):
        nexus = make(enable_tracing=False)
        add_headers(nexus)
        async with nexus:
            assert (await nexus.invoke(Invocation("headers", {}, trace=KEPT))).value == {}
            modules = {type(each).__module__ for each in stages_of(nexus)}
        assert not [name for name in modules if name.startswith("nexus_tracing")]
        assert spans.all == []


HEX = "0123456789abcdef"
GIVEN = st.one_of(
    st.text(max_size=300),
    st.from_regex(r"\A[0-9a-fA-F]{0,3}-[0-9a-fA-F]{30,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}(-.*)?\Z"),
    st.sampled_from([
        "", "-", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        KEPT["traceparent"].upper().replace("X", ""), KEPT["traceparent"] + "-extra", "ff" + KEPT["traceparent"][2:],
        "01" + KEPT["traceparent"][2:] + "-extra", KEPT["traceparent"] + "\r\nx: y", "\u0660" * 55,
    ]),
)  # fmt: skip


@given(GIVEN)
def test_what_is_no_traceparent_is_ignored(text):
    found = parse_traceparent(text)
    if found is not None:
        assert len(found.trace_id) == 32
        assert len(found.span_id) == 16
        assert set(found.trace_id + found.span_id) <= set(HEX)
        assert int(found.trace_id, 16)
        assert int(found.span_id, 16)
        assert text[:2] != "ff"
        assert text[:2] != "00" or len(text) == 55


@pytest.mark.parametrize("version", ["00", "01", "fe"])
def test_versions_to_come_are_read_as_this_one(version):
    extra = "" if version == "00" else "-more"
    found = parse_traceparent(f"{version}-{TRACE}-{PARENT}-03{extra}")
    assert found == (TRACE, PARENT, True)


@given(GIVEN, st.text(max_size=2000))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_headers_harm_nobody(make, traceparent, tracestate):
    async def call():
        nexus = make(tracing_push_interval=1000)
        add_headers(nexus)
        async with nexus:
            given = {"traceparent": traceparent, "tracestate": tracestate}
            found = (await nexus.invoke(Invocation("headers", {}, trace=given))).value
            assert parse_traceparent(found["traceparent"])
            assert len(found.get("tracestate", "")) <= 512

    asyncio.run(call())


async def test_two_platforms_do_not_mix(make, spans, otlp_receiver):
    import otlp_receiver as receivers

    other = receivers.OtlpReceiver()
    try:
        first, second = make(), make(tracing_endpoint=other.url)
        for nexus in (first, second):
            add_headers(nexus)
        async with first, second:
            await first.invoke("headers")
            await second.invoke("headers")
            await second.invoke("headers")
        assert len(spans.named("workflow headers")) == 1
        assert len([each for each in other.spans() if each.name == "workflow headers"]) == 2
    finally:
        other.close()


async def test_a_second_start_traces_too(make, spans):
    nexus = make()
    add_headers(nexus)
    for count in (1, 2):
        async with nexus:
            await nexus.invoke("headers")
        assert len(spans.named("workflow headers")) == count
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("OtelBatch")]
