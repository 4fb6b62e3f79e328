"""`Caller` and `Invocation`: what a request that reads passes, and a call."""

from __future__ import annotations

import logging
from dataclasses import fields

import pytest

from nexus_core import Caller, Invocation, NexusError, Stage, hookimpl
from nexus_core.testing import isolated_nexus
from nexus_core.types.principal import Principal, RateLimit, Validity

CALLER = Caller(
    "api", {"authorization": "Bearer s3cret"}, Principal("ann"), "session-1", {"traceparent": "00-1-2-01"}, "10.1.2.3",
    {b"authorization": b"Bearer s3cret"}, b"key=s3cret", RateLimit(10, 60.0, 9, 1.0), Validity(expires_at=1.0),
)  # fmt: skip


def test_a_call_has_all_that_is_known_of_its_caller():
    call = Invocation.of(CALLER, "greet", {"name": "Ada"}, "key-1")
    known = {field.name: getattr(CALLER, field.name) for field in fields(Caller)}
    assert None not in known.values()
    assert {name: getattr(call, name) for name in known} == known
    assert (call.name, call.params, call.idempotency_key) == ("greet", {"name": "Ada"}, "key-1")
    assert (call.owner, call.payer) == (CALLER.owner, CALLER.payer)


def test_every_member_of_a_caller_is_a_keyword_of_a_call():
    known = {field.name: getattr(CALLER, field.name) for field in fields(Caller)}
    call = Invocation("greet", {}, **known)
    assert {name: getattr(call, name) for name in known} == known


@pytest.mark.parametrize("who", [CALLER, Invocation.of(CALLER, "greet", {"password": "s3cret"})])
def test_its_text_shows_no_secret(who):
    assert "s3cret" not in repr(who)
    assert "session-1" not in repr(who)
    assert "ann" in repr(who)


class Stages:
    """Interceptors at several stages, each of which notes what it is passed."""

    def __init__(self):
        self.passed = []

    @hookimpl
    def nexus_register_interceptors(self):
        return [Notes(stage, self.passed) for stage in (Stage.ADMIT, Stage.ADMIT + 1, Stage.LIMIT, Stage.SESSION)]


class Notes:
    def __init__(self, stage, passed):
        self.stage = stage
        self.passed = passed

    async def __call__(self, caller, call_next):
        self.passed.append((self.stage, type(caller).__name__, getattr(caller, "name", "")))
        return await call_next(caller)


async def test_a_request_that_reads_passes_the_stages_up_to_limit_as_a_caller():
    plugin = Stages()
    nexus = isolated_nexus(plugin)
    nexus.register("greet", lambda: "hello")
    async with nexus:
        await nexus.view(Caller("api"))
        assert plugin.passed == [(Stage.ADMIT + 1, "Caller", ""), (Stage.LIMIT, "Caller", "")]
        plugin.passed.clear()
        await nexus.invoke("greet")
    assert [each[1:] for each in plugin.passed] == [("Invocation", "greet")] * 4


class ReadsParameters:
    """Forgets that requests which read have no parameters."""

    stage = Stage.LIMIT

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]

    async def __call__(self, invocation, call_next):
        if "secret" in invocation.params:
            raise NexusError("no")
        return await call_next(invocation)


async def test_an_interceptor_that_expects_a_call_refuses_the_request_and_is_named_in_the_log(caplog):
    nexus = isolated_nexus(ReadsParameters())
    nexus.register("greet", lambda: "hello")
    async with nexus:
        assert (await nexus.invoke("greet")).value == "hello"
        with caplog.at_level(logging.ERROR), pytest.raises(NexusError) as refused:
            await nexus.view(Caller("api"))
    assert refused.value.status == 500
    assert "ReadsParameters" in caplog.text
    assert "'Caller' object has no attribute 'params'" in caplog.text
