"""Log records while calls run: their ids, their secrets, and what callers can't do to them."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import pytest
from nexus_toolkit.redaction import HIDDEN
from pydantic import SecretStr

from nexus_core import Caller, Context, Invocation, NexusError, Principal, Stage, WorkflowFailed, hookimpl
from nexus_core.types.trace import current_trace

log = logging.getLogger("app")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HOSTILE = "x\r\n2026-01-01T00:00:00Z ERROR forged\x1b[31m\x9b2J\u2028\u202e" + "y" * 5000


class Known:
    """Stands for authentication."""

    __name__ = "known"
    stage = Stage.AUTHENTICATE

    def __init__(self, user_id="ann", tenant_id=None):
        self._principal = Principal(user_id, tenant_id=tenant_id)

    @hookimpl
    def nexus_register_interceptors(self, nexus):
        return [self]

    async def __call__(self, invocation, call_next):
        invocation.principal = self._principal
        return await call_next(invocation)


async def refused(nexus, *args):
    with pytest.raises(NexusError) as caught:
        await nexus.invoke(*args)
    return caught.value


async def test_records_of_a_call_have_its_ids(make, lines):
    nexus = make(Known("ann", "acme"))

    @nexus.workflow
    def in_a_thread(context: Context) -> str:
        log.info("first")
        context.log.info("second", extra={"rows": 3})
        return context.run_id

    @nexus.workflow
    async def on_the_loop(context: Context) -> str:
        async def beside():
            log.info("second")

        log.info("first")
        await asyncio.create_task(beside())
        return context.run_id

    async with nexus:
        session = await (await nexus.view(Caller())).create_session("api")
        for name in ("in_a_thread", "on_the_loop"):
            call = Invocation(name, {}, "api", session_id=session.id, trace={"traceparent": TRACEPARENT})
            run_id = (await nexus.invoke(call)).value
            ids = {
                "workflow": name, "channel": "api", "run_id": run_id, "session_id": f"{session.id[:8]}...",
                "user_id": "ann", "tenant_id": "acme", "trace_id": TRACEPARENT[3:35],
            }  # fmt: skip
            found = [line for line in lines.all if line.get("run_id") == run_id]
            assert [line["message"] for line in found[:2]] == ["first", "second"]
            assert all(line.items() >= ids.items() for line in found)
    assert [line["rows"] for line in lines.of("nexus.workflow")] == [3]


async def test_no_line_has_the_whole_id_of_a_session(make, lines):
    """Where nobody is asked, whoever has it has the session."""
    nexus = make()

    @nexus.workflow
    async def tells(context: Context) -> None:
        log.warning("the session is %s", context.session.id, extra={"session": context.session.id})
        raise ValueError(f"it was {context.session.id}")

    async with nexus:
        session = await (await nexus.view(Caller())).create_session("api")
        with pytest.raises(WorkflowFailed):
            await nexus.invoke(Invocation("tells", {}, "api", session_id=session.id))
        with pytest.raises(NexusError):
            await nexus.invoke(Invocation("tells", {}, "api", session_id="c" * 48))
        log.warning("outside of any call: %s", session.id)
    assert sum("the session is" in line["message"] for line in lines.all) == 1
    for line in lines.all:
        assert session.id not in json.dumps(line)
        assert "c" * 48 not in json.dumps(line)


async def test_records_elsewhere_have_none(make, lines):
    async with make():
        log.info("outside")
    assert lines.of("app")[0].keys() == {"timestamp", "level", "logger", "message"}


async def test_the_trace_of_a_tracing_plugin_goes_first(make, lines):
    class Trace:
        __name__ = "tracing"
        trace_id, span_id = "a" * 32, "b" * 16
        stage = Stage.OBSERVE - 10

        @hookimpl
        def nexus_register_interceptors(self, nexus):
            return [self]

        async def __call__(self, invocation, call_next):
            token = current_trace.set(self)
            try:
                return await call_next(invocation)
            finally:
                current_trace.reset(token)

    nexus = make(Trace(), log_invocations=True)
    nexus.register("work", lambda: log.info("inside"))
    async with nexus:
        await nexus.invoke(Invocation("work", {}, trace={"traceparent": TRACEPARENT}))
    for line in (*lines.of("app"), *lines.of("nexus.calls")):
        assert (line["trace_id"], line["span_id"]) == ("a" * 32, "b" * 16)


@pytest.mark.parametrize("given", ["", "00-xyz", TRACEPARENT.upper(), TRACEPARENT + "x", HOSTILE])
async def test_a_traceparent_that_is_none_is_not_shown(make, lines, given):
    nexus = make(log_invocations=True)
    nexus.register("work", lambda: None)
    async with nexus:
        await nexus.invoke(Invocation("work", {}, trace={"traceparent": given}))
    assert "trace_id" not in lines.of("nexus.calls")[0]


async def test_each_call_is_a_record(make, lines):
    nexus = make(Known(), log_invocations=True)

    @nexus.workflow
    async def work(fail: bool = False) -> int:
        if fail:
            raise ValueError("no")
        return 7

    async with nexus:
        result = await nexus.invoke(Invocation("work", {}, "mcp", idempotency_key="k"))
        await nexus.invoke(Invocation("work", {}, "mcp", idempotency_key="k"))
        await refused(nexus, "work", {"fail": True})
        await refused(nexus, "work", {"wrong": 1})
        await refused(nexus, HOSTILE)
    first, again, failed, wrong, unknown = lines.of("nexus.calls")
    assert first.items() >= {
        "verdict": "completed", "workflow": "work", "channel": "mcp", "run_id": result.run_id, "user_id": "ann",
        "level": "info",
    }.items()  # fmt: skip
    assert 0 < first["duration_ms"] < 10_000
    assert "replayed" not in first
    assert again["replayed"] is True
    assert (failed["verdict"], failed["code"]) == ("failed", "workflow_failed")
    assert (wrong["verdict"], wrong["code"]) == ("refused", "validation_error")
    assert (unknown["verdict"], unknown["code"]) == ("refused", "workflow_not_found")
    assert len(unknown["workflow"]) <= 200


async def test_cancelled_calls(make, lines):
    nexus = make(log_invocations=True)
    begun = asyncio.Event()

    @nexus.workflow
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with nexus:
        task = asyncio.create_task(nexus.invoke("wait"))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        begun.clear()
        run = nexus.submit(Invocation("wait", {}))
        await begun.wait()
        run.cancel()
        await asyncio.gather(run.outcome(), return_exceptions=True)
    assert [line["verdict"] for line in lines.of("nexus.calls")] == ["cancelled", "cancelled"]


async def test_they_can_be_left_out(make, lines):
    nexus = make(log_invocations=False)
    nexus.register("work", lambda: log.info("inside"))
    async with nexus:
        await nexus.invoke("work")
    assert lines.of("nexus.calls") == []
    assert lines.of("app")[0]["workflow"] == "work"


class TestInjection:
    @pytest.mark.parametrize("lines", ["json", "text"], indirect=True)
    async def test_every_record_stays_one_line(self, make, lines):
        nexus = make(Known(HOSTILE, HOSTILE), log_invocations=True)

        @nexus.workflow
        def work(note: str) -> None:
            log.info("note: %s", note)
            log.info(note)
            log.info("with", extra={"note": note})
            raise ValueError(note)

        async with nexus:
            await refused(nexus, Invocation("work", {"note": HOSTILE}, HOSTILE[:20], trace={"traceparent": HOSTILE}))
            await refused(nexus, HOSTILE, {HOSTILE: HOSTILE})
        assert not {char for char in lines.text if char != "\n" and not char.isprintable()}
        for line in lines.text.splitlines():
            assert not line.startswith("2026-01-01T00:00:00Z ERROR forged")
            assert len(line) < 80_000
        if lines.text.startswith("{"):
            assert len(lines.all) == 6

    @pytest.mark.parametrize("lines", ["text"], indirect=True)
    async def test_tracebacks_in_text_are_indented(self, make, lines):
        nexus = make()

        @nexus.workflow
        def work() -> None:
            raise ValueError("first\n2026-01-01 forged")

        async with nexus:
            await refused(nexus, "work")
        shown = lines.text.splitlines()
        assert "    2026-01-01 forged" in shown
        assert "2026-01-01 forged" not in shown


SECRET = "hunter2-and-more"


class TestSecrets:
    async def leak(self, nexus, params, **caller):
        await refused(nexus, Invocation("leak", params, **caller))

    @pytest.mark.parametrize("lines", ["json", "text"], indirect=True)
    async def test_what_callers_give_as_secret_is_in_no_record(self, make, lines, tmp_path):
        file = tmp_path / "audit.jsonl"
        nexus = make(log_invocations=True, audit_log=str(file), audit_parameters=True)

        def chain(password):
            try:
                raise KeyError(password)
            except KeyError as exc:
                raise ValueError(f"can't log in with {password}") from exc

        @nexus.workflow
        def leak(password: str, note: str = "") -> None:
            log.info("it is %s", password)
            log.warning("it is in %r", {"what": [password]}, extra={"more": {"deep": password}})
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
            chain(password)

        async with nexus:
            await self.leak(nexus, {"password": SECRET, "note": f"again: {SECRET}"})
            await self.leak(nexus, {"password": SECRET, "wrong": SECRET})
        assert lines.text.count(HIDDEN) >= 4
        assert SECRET not in lines.text
        assert SECRET not in file.read_text()
        assert file.read_text().count(HIDDEN) >= 4

    async def test_nor_are_marked_parameters(self, make, lines, tmp_path):
        file = tmp_path / "audit.jsonl"
        nexus = make(audit_log=str(file), audit_parameters=True)

        def leak(account: str, amount: float) -> None:
            raise ValueError(account)

        nexus.register("leak", leak, {"sensitive_parameters": ["account"]})
        async with nexus:
            await self.leak(nexus, {"account": SECRET, "amount": 3})
        assert SECRET not in lines.text + file.read_text()
        assert '"parameters":{"account":"***","amount":3}' in file.read_text()

    async def test_nor_are_parameters_that_their_hints_mark(self, make, lines, tmp_path):
        file = tmp_path / "audit.jsonl"
        nexus = make(audit_log=str(file), audit_parameters=True)

        @nexus.workflow
        def leak(account: SecretStr) -> None:
            raise ValueError(account.get_secret_value())

        async with nexus:
            await self.leak(nexus, {"account": SECRET})
        assert SECRET not in lines.text + file.read_text()
        assert file.read_text().count(HIDDEN) == 2

    @pytest.mark.parametrize("kind", ["list", "mapping", "further parameters", "marked name"])
    async def test_nor_are_lists_and_mappings_of_secrets(self, make, lines, tmp_path, kind):
        file = tmp_path / "audit.jsonl"
        nexus = make(audit_log=str(file), audit_parameters=True)

        def of_a_list(accounts: list[SecretStr]) -> None:
            raise ValueError(accounts[0].get_secret_value())

        def of_a_mapping(accounts: dict[str, SecretStr]) -> None:
            raise ValueError(accounts["a"].get_secret_value())

        def of_any_name(**accounts: SecretStr) -> None:
            raise ValueError(accounts["accounts"].get_secret_value())

        def of_a_marked_name(accounts: list[str]) -> None:
            raise ValueError(accounts[0])

        leak, accounts, metadata = {
            "list": (of_a_list, [SECRET, "first"], {}),
            "mapping": (of_a_mapping, {"a": SECRET}, {}),
            "further parameters": (of_any_name, SECRET, {}),
            "marked name": (of_a_marked_name, [SECRET], {"sensitive_parameters": ["accounts"]}),
        }[kind]
        nexus.register("leak", leak, metadata)
        async with nexus:
            await self.leak(nexus, {"accounts": accounts})
        assert SECRET not in lines.text + file.read_text()
        assert '"parameters":{"accounts":"***"}' in file.read_text()

    async def test_nor_is_the_callers_token(self, make, lines):
        nexus = make(log_invocations=True)

        @nexus.workflow
        def leak(note: str) -> None:
            raise ValueError(note)

        async with nexus:
            await self.leak(nexus, {"note": f"sent {SECRET}"}, credentials={"authorization": f"Bearer {SECRET}"})
        assert SECRET not in lines.text

    async def test_names_of_ones_own(self, make, tmp_path):
        file = tmp_path / "audit.jsonl"
        nexus = make(audit_log=str(file), audit_parameters=True, log_redact=["iban"])
        nexus.register("pay", lambda iban: None)
        async with nexus:
            await nexus.invoke("pay", {"iban": SECRET})
        assert SECRET not in file.read_text()

    async def test_marks_that_are_none_stop_the_start(self, make):
        nexus = make()
        nexus.register("work", lambda: None, {"sensitive_parameters": "account"})
        with pytest.raises(Exception, match='The metadata sensitive_parameters of the workflow "work"'):
            await nexus.__aenter__()

    async def test_with_wrong_marks_later_everything_is_secret(self, make, lines, tmp_path):
        file = tmp_path / "audit.jsonl"
        nexus = make(audit_log=str(file), audit_parameters=True)
        async with nexus:
            nexus.register("work", lambda note: None, {"sensitive_parameters": 7})
            await nexus.invoke("work", {"note": SECRET})
        assert SECRET not in file.read_text()
        assert "All of its parameters are redacted" in lines.text
