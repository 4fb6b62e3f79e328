"""Pattern 4: a resolver that reads requests of every channel in their own words."""

from __future__ import annotations

from typing import Any

import pytest
from guide_callers import CHANNELS, Client
from guide_text import run, served

HEADING = "Pattern 4: Advanced Parameter Resolution"


@pytest.fixture
def nexus() -> Any:
    nexus = run(HEADING)["nexus"]

    @nexus.workflow
    def seen(
        data: dict, n: int = 0, request_id: str | None = None, user_id: str | None = None, cli_args: list | None = None,
        cli_options: dict | None = None, tool_name: str | None = None, tool_id: str | None = None,
    ) -> dict:  # fmt: skip
        return dict(locals())

    @nexus.workflow
    def plain(input_data: dict, validation_rules: dict | None = None) -> dict:
        return {"input_data": input_data, "validation_rules": validation_rules}

    nexus.register("data_processor", plain)
    return nexus


async def test_it_gets_what_each_channel_has(nexus: Any) -> None:
    async with served(nexus) as urls:
        caller = Client(urls)
        params = {"data": {"test": "value"}}
        headers = {"x-request-id": "r1", "x-user-id": "ada"}
        body = (await caller.api("seen", params, **{k.replace("-", "_"): v for k, v in headers.items()})).result
        assert (body["request_id"], body["user_id"], body["data"]) == ("r1", "ada", params)
        line = (await caller.cli("seen", params)).result
        assert (line["cli_args"], line["cli_options"], line["data"]) == ([], params, {"test": "value"})
        tool = (await caller.mcp("seen", params)).result
        assert (tool["tool_name"], tool["tool_id"], tool["data"]) == ("seen", "1", params)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("workflow", ["plain", "data_processor"])
async def test_workflows_that_take_none_of_it_run_all_the_same(nexus: Any, channel: str, workflow: str) -> None:
    async with served(nexus) as urls:
        answer = await Client(urls).call(channel, workflow, {"input_data": {"x": 1}})
        assert answer.result == {"input_data": {"x": 1}, "validation_rules": None}
        wrong = await Client(urls).call(channel, workflow, {"input_data": 3})
        assert (wrong.code, wrong.reply["errors"][0]["pointer"]) == ("validation_error", "/input_data")
        unknown = await Client(urls).call(channel, workflow, {"input_data": {}, "no_such": 1})
        assert (unknown.code, unknown.reply["errors"][0]["pointer"]) == ("validation_error", "/no_such")
