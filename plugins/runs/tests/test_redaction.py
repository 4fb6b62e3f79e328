"""Secrets among the parameters of runs never reach the disk."""

from __future__ import annotations

import asyncio
from typing import Annotated

import pytest
from nexus_runs.plugin import RunsPlugin
from pydantic import Field

from nexus_core import Invocation, Nexus
from nexus_core.runs.record import RunFilter

SECRETS = ("hunter2-by-name", "marked-in-metadata", "marked-in-the-schema", "named-by-the-option", "within-a-list")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def nexus(path):
    nexus = Nexus(
        discover=False, plugins=[RunsPlugin], run_store="sqlite", runs_sqlite_path=str(path), runs_redact=["iban"]
    )

    @nexus.workflow(sensitive_parameters=["question"])
    async def pay(
        password: str, question: str, hidden: Annotated[str, Field(json_schema_extra={"writeOnly": True})], iban: str,
        accounts: list[dict[str, str]], note: str, number: int = 5,
    ) -> str:  # fmt: skip
        return f"{len(password)}{len(iban)}"

    return nexus


async def test_secrets_are_nowhere_in_the_file(nexus, path):
    by_name, in_metadata, in_schema, by_option, within = SECRETS
    params = {
        "password": by_name, "question": in_metadata, "hidden": in_schema, "iban": by_option,
        "accounts": [{"api_key": within, "name": "main"}], "note": f"seen: {by_name} " + "long " * 2000, "number": 5,
    }  # fmt: skip
    async with nexus:
        plain = await nexus.invoke("pay", params)
        keyed = await nexus.invoke(Invocation("pay", params, idempotency_key="k"))
        run = nexus.submit(Invocation("pay", params))
        assert (await run.outcome()).value == plain.value == keyed.value == "1519"  # the workflow gets them as they are
        (plugin,) = nexus.plugins.instances(RunsPlugin)
        store = plugin.nexus_register_run_stores()[0]
        async with asyncio.timeout(10):
            while len(ended := [each for each in await store.find(RunFilter()) if each.has_ended]) < 3:
                await asyncio.sleep(0.02)
        for each in ended:
            state = await store.get(each.record.id)
            assert b'"number":5' in state.record.params
            assert b'"name":"main"' in state.record.params
            assert b"***" in state.record.params
            assert len(state.record.params) > 10_000  # what is no secret is stored whole
    written = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"long long" in written
    assert [secret for secret in SECRETS if secret.encode() in written] == []
