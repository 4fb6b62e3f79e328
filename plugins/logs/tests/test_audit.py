"""The audit log: its file, and what happens when it can't be written."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import stat

import pytest

from nexus_core import (
    AuthenticationError,
    BackendUnavailable,
    Caller,
    ConfigurationError,
    Invocation,
    NexusError,
    Stage,
    hookimpl,
)
from nexus_core.testing import eventually


async def test_an_entry_for_each_call(make, tmp_path, entries):
    file = tmp_path / "audit.jsonl"
    nexus = make(audit_log=str(file))
    nexus.register("add", lambda a, b=0: a + b)
    async with nexus:
        result = await nexus.invoke(Invocation("add", {"a": 1}, "cli", client_address="10.0.0.7"))
        with pytest.raises(NexusError):
            await nexus.invoke("subtract", {"a": 1})
        await eventually(lambda: len(entries(file)) == 2)
    first, second = entries(file)
    assert first.items() >= {
        "verdict": "completed", "workflow": "add", "channel": "cli", "run_id": result.run_id,
        "client_address": "10.0.0.7",
    }.items()  # fmt: skip
    assert first["time"].endswith("Z")
    assert "parameters" not in first
    assert (second["verdict"], second["code"]) == ("refused", "workflow_not_found")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_it_goes_on_at_the_next_start(make, tmp_path, entries):
    file = tmp_path / "audit.jsonl"
    nexus = make(audit_log=str(file))
    nexus.register("work", lambda: None)
    for _ in range(2):
        async with nexus:
            await nexus.invoke("work")
    assert len(entries(file)) == 2


async def test_many_writers_leave_whole_lines(make, tmp_path, entries):
    file = tmp_path / "audit.jsonl"
    platforms = [make(audit_log=str(file), audit_parameters=True) for _ in range(2)]
    for each in platforms:
        each.register("work", lambda note: None)
        await each.__aenter__()
    await asyncio.gather(*(each.invoke("work", {"note": "x" * 3000}) for each in platforms for _ in range(90)))
    for each in platforms:
        await each.__aexit__(None, None, None)
    assert len(entries(file)) == 180


async def test_a_file_that_was_moved_away_is_made_anew(make, tmp_path, entries):
    file, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    nexus = make(audit_log=str(file))
    nexus.register("work", lambda: None)
    async with nexus:
        await nexus.invoke("work")
        await eventually(lambda: len(entries(file)) == 1)
        file.rename(old)
        calls = 1
        while not file.exists():  # the thread may still be at the old one
            await nexus.invoke("work")
            calls += 1
            assert calls < 100_000
    assert len(entries(file)) >= 1
    assert len(entries(file)) + len(entries(old)) == calls


async def test_who_is_refused_a_look(make, tmp_path, entries):
    class Refuses:
        __name__ = "refuses"
        stage = Stage.AUTHENTICATE

        @hookimpl
        def nexus_register_interceptors(self, nexus):
            return [self]

        async def __call__(self, invocation, call_next):
            if invocation.credentials is None:
                raise AuthenticationError("Who are you?")
            return await call_next(invocation)

    file = tmp_path / "audit.jsonl"
    nexus = make(Refuses(), audit_log=str(file))
    nexus.register("work", lambda: None)
    async with nexus:
        await nexus.view(Caller("api", credentials={"authorization": "x"}))
        with pytest.raises(AuthenticationError):
            await nexus.view(Caller("api", client_address="10.0.0.7"))
        with pytest.raises(AuthenticationError):
            await nexus.invoke("work")
    look, call = entries(file)
    assert look.items() >= {"verdict": "refused", "channel": "api", "client_address": "10.0.0.7"}.items()
    assert look["code"] == call["code"] == "authentication_failed"
    assert "workflow" not in look
    assert call["workflow"] == "work"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_streams(make, capfd, stream):
    nexus = make(audit_log=stream)
    nexus.register("work", lambda: None)
    async with nexus:
        await nexus.invoke("work")
    assert '"verdict":"completed"' in getattr(capfd.readouterr(), stream[3:])


class TestFaults:
    @pytest.mark.parametrize("target", ["missing/audit.jsonl", "."])
    async def test_a_file_that_can_not_be_opened_stops_the_start(self, make, tmp_path, monkeypatch, target):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigurationError, match=r"audit_log: .* can't be written: "):
            await make(audit_log=target).__aenter__()

    async def test_a_fifo_without_a_reader_does(self, make, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(ConfigurationError, match="audit_log"):
            await make(audit_log=str(tmp_path / "fifo")).__aenter__()

    async def test_required_without_a_place_does(self, make):
        with pytest.raises(ConfigurationError, match="audit_required needs audit_log"):
            await make(audit_required=True).__aenter__()

    async def test_a_full_disk_stops_no_call(self, make, caplog):
        nexus = make(audit_log="/dev/full")
        nexus.register("work", lambda: 7)
        async with nexus:
            with caplog.at_level(logging.ERROR):
                await nexus.invoke("work")
                await eventually(lambda: "audit_log: /dev/full can't be written: No space left" in caplog.text)
            for _ in range(20):
                assert (await nexus.invoke("work")).value == 7
            measured = {each.name: dict(each.read())[()] for each in nexus.measurements() if "audit" in each.name}
        assert measured == {"nexus_audit_backlog": 42, "nexus_audit_dropped_total": 0, "nexus_audit_failing": 1}
        assert caplog.text.count("can't be written") == 1
        assert "42 lines could not be written" in caplog.text

    async def test_where_it_is_required_calls_are_refused(self, make):
        nexus = make(audit_log="/dev/full", audit_required=True)
        done = []
        nexus.register("work", lambda: done.append(1))
        async with nexus:
            for _ in range(2):
                with pytest.raises(BackendUnavailable, match="audit_required"):
                    await nexus.invoke("work")
        assert done == []  # it does not run before its line is there

    async def test_where_it_is_required_the_line_is_there_with_the_answer(self, make, tmp_path, entries):
        file = tmp_path / "audit.jsonl"
        nexus = make(audit_log=str(file), audit_required=True)
        begun = []
        nexus.register("work", lambda: begun.append(entries(file, begun=True)[-1]["verdict"]))
        async with nexus:
            for count in range(1, 20):
                await nexus.invoke("work")
                assert len(entries(file)) == count
        assert begun == ["started"] * 19

    async def test_it_goes_on_when_there_is_room_again(self, make, tmp_path, monkeypatch, caplog, entries):
        monkeypatch.setattr("nexus_logs.line_writer.RETRY_SECONDS", 0.05)
        file = tmp_path / "audit.jsonl"
        nexus = make(audit_log=str(file), audit_parameters=True)
        nexus.register("work", lambda note: None)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        async with nexus:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
            try:
                with caplog.at_level(logging.ERROR):
                    await asyncio.gather(*(nexus.invoke("work", {"note": "x" * 1000}) for _ in range(20)))
                    await eventually(lambda: "can't be written" in caplog.text)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            await eventually(lambda: "can be written again" in caplog.text)
        assert len(entries(file)) == 20

    async def test_lines_that_nobody_takes_are_bounded_and_counted(self, make, monkeypatch, caplog):
        monkeypatch.setattr("nexus_logs.line_writer.LINES", 5)
        nexus = make(audit_log="/dev/full")
        nexus.register("work", lambda: None)
        async with nexus:
            with caplog.at_level(logging.ERROR):
                for _ in range(20):
                    await nexus.invoke("work")
            measured = {each.name: dict(each.read())[()] for each in nexus.measurements() if "audit" in each.name}
        assert measured["nexus_audit_backlog"] == 5
        assert measured["nexus_audit_dropped_total"] == 35
        assert caplog.text.count("lines are dropped") == 1
