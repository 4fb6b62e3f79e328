"""What the guide promises beside its code: principles and practices that no block shows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from guide_callers import CHANNELS, Client
from guide_text import served
from token_issuer import SECRET, secret_token

from nexus_core import Context, Nexus, WorkflowError
from nexus_core.options.first_party import OPTIONS


async def test_zero_configuration_is_three_channels() -> None:
    nexus = Nexus()
    nexus.register("greet", lambda: "Hello")
    async with served(nexus) as urls:
        assert set(urls) == set(CHANNELS)
        for channel in CHANNELS:
            assert (await Client(urls).call(channel, "greet", {})).result == "Hello"


def test_features_of_the_gateway_are_off_until_they_are_asked_for() -> None:
    nexus = Nexus()
    values = {name: getattr(model, name) for model in nexus.every_settings for name in type(model).model_fields}
    features = {name for options in OPTIONS.values() for name in options if name.startswith("enable_")}
    on = {name for name in features if values[name]}
    harmless = {  # what costs nothing, asks nobody and keeps nothing; and what only counts where another is on
        "enable_sessions", "enable_health_checks", "enable_csrf_protection", "enable_security_headers",
        "enable_shell_completion", "enable_history", "enable_colors", "enable_progress_bars",
        "enable_tool_discovery", "enable_resource_discovery", "enable_streaming",
    }  # fmt: skip
    assert on <= harmless


@pytest.mark.parametrize(
    "feature",
    [{"enable_rate_limiting": True}, {"enable_caching": True}, {"enable_circuit_breaker": True},
     {"enable_tracing": True}, {"enable_monitoring": True, "metrics_port": 0}, {"audit_log": "stderr"}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
async def test_each_can_be_switched_on_alone(feature: dict[str, Any]) -> None:
    nexus = Nexus(**feature)
    nexus.register("greet", lambda: "Hello")
    async with served(nexus) as urls:
        for channel in CHANNELS:
            assert (await Client(urls).call(channel, "greet", {})).result == "Hello"


async def test_each_does_what_it_is_for() -> None:
    limited = Nexus(enable_rate_limiting=True, rate_limit_per_minute=3)
    limited.register("greet", lambda: "Hello")
    async with served(limited) as urls:
        codes = [(await Client(urls).call(channel, "greet", {})).code for channel in (*CHANNELS, *CHANNELS)]
    assert codes == [None] * 3 + ["rate_limited"] * 3

    caching = Nexus(enable_caching=True)
    ran: list[int] = []
    caching.register("greet", lambda: ran.append(1), {"cache_ttl": 60})
    async with served(caching) as urls:
        for channel in CHANNELS:
            await Client(urls).call(channel, "greet", {})
    assert ran == [1]

    guarded = Nexus(enable_circuit_breaker=True)
    guarded.register("fails", lambda: 1 / 0)
    async with served(guarded) as urls:
        codes = [(await Client(urls).call(channel, "fails", {})).code for channel in CHANNELS * 2]
    assert codes == ["workflow_failed"] * 5 + ["circuit_open"]


NODES_BY_NAME = """
import logging
logging.disable()
from nexus import Nexus
from nexus_kailash.library import node_modules
from kailash.nodes.base import NodeRegistry
Nexus()
found = 0
for name in node_modules():
    try:
        NodeRegistry.get(name)
        found += 1
    except Exception:
        pass
print(found)
"""


def test_the_library_of_nodes_has_more_than_a_hundred_and_ten() -> None:
    """Nodes that a workflow can name, with what the platform distribution installs."""
    command = [sys.executable, "-W", "ignore", "-c", NODES_BY_NAME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 110, "run `make install`"


async def test_state_is_kept_outside_of_workflows() -> None:
    nexus = Nexus()

    @nexus.workflow
    def visit(context: Context) -> int:
        assert context.session is not None
        context.session.state["visits"] = context.session.state.get("visits", 0) + 1
        return int(context.session.state["visits"])

    async with served(nexus) as urls:
        session = (await Client(urls).http("POST", "/api/sessions")).json()["session_id"]
        for number, channel in enumerate(CHANNELS, 1):
            assert (await Client(urls, session=session).call(channel, "visit", {})).result == number


async def test_a_repeat_with_the_same_key_does_not_run_again() -> None:
    nexus, ran = Nexus(), []
    nexus.register("pay", lambda: ran.append(1) or len(ran))
    async with served(nexus) as urls:
        answers = [await Client(urls).api("pay", {}, idempotency_key="once") for _ in range(3)]
    assert [answer.result for answer in answers] == [1, 1, 1]
    assert [answer.reply.get("replayed", False) for answer in answers] == [False, True, True]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_workflows_that_hang_or_fail_are_answered(channel: str) -> None:
    nexus = Nexus(workflow_timeout=0.3)

    @nexus.workflow
    async def hang() -> None:
        await asyncio.Event().wait()

    @nexus.workflow
    def fail(kind: str) -> None:
        raise WorkflowError("The shelf is empty.") if kind == "known" else OSError("the password")

    async with served(nexus) as urls:
        caller = Client(urls)
        assert (await caller.call(channel, "hang", {})).code == "workflow_timeout"
        known = await caller.call(channel, "fail", {"kind": "known"})
        assert (known.code, known.reply["detail"]) == ("workflow_error", "The shelf is empty.")
        unknown = await caller.call(channel, "fail", {"kind": "other"})
        assert (unknown.code, "password" in str(unknown.reply)) == ("workflow_failed", False)


async def test_who_called_what_is_in_the_audit_log(tmp_path: Any) -> None:
    nexus = Nexus(audit_log=str(tmp_path / "audit.jsonl"), enable_auth=True, jwt_secret=SECRET)
    nexus.register("greet", lambda: "Hello")
    async with served(nexus) as urls:
        for channel in CHANNELS:
            await Client(urls, secret_token(sub="ada")).call(channel, "greet", {})
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["user_id"], line["channel"], line["workflow"], line["verdict"]) for line in lines] == [
        ("ada", channel, "greet", verdict) for channel in CHANNELS for verdict in ("started", "completed")
    ]


async def test_the_process_tells_of_its_resources() -> None:
    nexus = Nexus(enable_monitoring=True)
    async with served(nexus) as urls:
        text = (await Client(urls).http("GET", "/metrics", "metrics")).text
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert f"\n{name} " in text
