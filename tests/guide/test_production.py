"""The production configuration: every option of it has its effect on a platform that is served by HTTPS."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx2
import pytest
from certificates import Authority
from guide_callers import Client
from guide_text import blocks, hosts, run, served
from pydantic import SecretStr
from token_issuer import AUDIENCE

from nexus_core import ConfigurationError, Nexus
from nexus_core.testing import eventually

HEADING = "Production Configuration"
CERTIFICATE, KEY = "/etc/ssl/certs/nexus.crt", "/etc/ssl/private/nexus.key"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def config(authority: Authority) -> Any:
    """The guide's object, with certificates where this machine has some."""
    found = run_without_nexus()
    assert (found.ssl_cert_path, found.ssl_key_path) == (CERTIFICATE, KEY)
    vars(found).update(authority.issue())
    return found


def run_without_nexus() -> Any:
    """Run the block but for its last line, which makes the platform."""
    text = blocks()[HEADING]
    assert text.rstrip().endswith("nexus = Nexus(config=config)")
    space: dict[str, Any] = {"__name__": "guide"}
    exec(compile(text.rpartition("nexus = ")[0], "guide.md", "exec"), space)
    return space["config"]


def option(nexus: Nexus, name: str) -> Any:
    return next(getattr(model, name) for model in nexus.every_settings if name in type(model).model_fields)


def test_the_block_makes_a_platform_with_each_option() -> None:
    nexus: Nexus = run(HEADING)["nexus"]
    expected = vars(run_without_nexus())
    assert len(expected) >= 18
    for name, value in expected.items():
        found = option(nexus, name)
        found = found.get_secret_value() if isinstance(found, SecretStr) else found
        assert (str(found) if isinstance(found, Path) else found) == value, name
    assert {source for name, source in nexus.option_sources().items()} == {f"{n} of ProductionConfig" for n in expected}


@pytest.fixture
def nexus(
    config: Any,
    with_redis: Any,
    with_postgres: Any,
    environment: Any,
    issuer: Any,
    monkeypatch: pytest.MonkeyPatch,
    otlp_receiver: Any,
) -> Nexus:
    hosts(monkeypatch, redis_cluster=with_redis.port, postgres=with_postgres.port)
    monkeypatch.delenv("NEXUS_REDIS_URL")
    # The guide's https://auth.example.com and https://monitoring.example.com are servers of this machine, without TLS.
    environment(
        auth_service_url=issuer.url, auth_allow_http="true", jwt_audience=AUDIENCE, store="redis",
        monitoring_service_url=otlp_receiver.url, metrics_push_interval=0.2, health_check_interval=0.2,
    )  # fmt: skip
    nexus = Nexus(config=config)

    @nexus.workflow
    def double(value: int) -> int:
        logging.getLogger("shop").info("doubling")
        return 2 * value

    return nexus


async def test_it_is_served_by_https_to_those_whom_the_auth_service_knows(
    nexus: Nexus, authority: Authority, issuer: Any
) -> None:
    trust = authority.trust()
    async with served(nexus) as urls, httpx2.AsyncClient(verify=trust, timeout=30) as client:
        assert all(url.startswith("https://") for url in urls.values())
        url = urls["api"].replace("127.0.0.1", "localhost") + "/api/workflows/double/execute"
        assert (await client.post(url, json={"value": 2})).status_code == 401
        headers = {"authorization": f"Bearer {issuer.token()}"}
        answer = await client.post(url, json={"value": 2}, headers=headers)
        assert answer.json()["result"] == 4
        assert answer.headers["x-content-type-options"] == "nosniff"
        with pytest.raises(httpx2.HTTPError):
            await client.post(url.replace("https", "http"), json={"value": 2})
        # Health checks, and readiness with them.
        for _ in range(600):  # until everything has been checked once
            ready = await client.get(url.partition("/api")[0] + "/health/ready")
            if ready.status_code == 200:
                break
            await asyncio.sleep(0.05)
        assert ready.status_code == 200, ready.text
        metrics = urls["metrics"].replace("127.0.0.1", "localhost")
        assert (await client.get(metrics + "/metrics")).status_code == 401
        reader = {"authorization": f"Bearer {issuer.token(permissions=['metrics.read'])}"}
        assert 'workflow="double"' in (await client.get(metrics + "/metrics", headers=reader)).text


async def test_state_is_in_the_redis_cluster_and_metrics_reach_the_monitoring_service(
    nexus: Nexus, authority: Authority, issuer: Any, with_redis: Any, otlp_receiver: Any
) -> None:
    async with served(nexus) as urls:
        trust = authority.trust()
        async with httpx2.AsyncClient(verify=trust, timeout=30) as client:
            headers = {"authorization": f"Bearer {issuer.token()}", "idempotency-key": "once"}
            url = urls["api"].replace("127.0.0.1", "localhost") + "/api/workflows/double/execute"
            assert (await client.post(url, json={"value": 2}, headers=headers)).json()["result"] == 4
        assert with_redis.ask("DBSIZE") > 0
        await eventually(lambda: any(metric.name.startswith("nexus_calls") for metric in otlp_receiver.metrics()), 30)


def test_logs_are_json(nexus: Nexus) -> None:
    ((_, handler),) = nexus.plugins.collect("nexus_register_log_handlers")
    record = logging.LogRecord("shop", logging.INFO, "", 0, "doubling %d", (2,), None)
    line = json.loads(handler.format(record))
    assert (line["message"], line["level"]) == ("doubling 2", "info")


async def test_a_thousand_at_once_and_five_minutes(nexus: Nexus) -> None:
    assert (nexus.options.max_concurrent_workflows, nexus.options.workflow_timeout) == (1000, 300)
    assert nexus.options.enable_async_execution
    assert option(nexus, "metrics_port") == 9090


@pytest.mark.parametrize("is_on", [True, False])
async def test_async_execution(is_on: bool) -> None:
    """Where it is on, a run goes on when its caller no longer waits; else everybody waits for the result."""
    nexus = Nexus(enable_async_execution=is_on)

    @nexus.workflow
    async def slow() -> int:
        await asyncio.sleep(0.2)
        return 1

    async with served(nexus) as urls:
        caller = Client(urls)
        answer = await caller.http("POST", "/api/workflows/slow/execute", json={}, headers={"prefer": "wait=0"})
        assert answer.status_code == (202 if is_on else 200)
        assert ("result" in answer.json()) != is_on
        reply = await caller.mcp_request("tools/call", meta={"nexus/wait": 0}, name="slow", arguments={})
        assert ("result" in reply["result"]["structuredContent"]) != is_on
        _, out, _ = await caller.nexus("execute", "slow", "--wait", "0")
        assert ("result" in json.loads(out)) != is_on


def test_csrf_protection_and_the_database() -> None:
    nexus: Nexus = run(HEADING)["nexus"]
    assert option(nexus, "enable_csrf_protection") is True
    assert option(nexus, "postgres_url").get_secret_value() == "postgresql://user:pass@postgres:5432/nexus"
    assert "pass@" not in repr(nexus.every_settings)


async def test_what_is_missing_stops_the_start() -> None:
    """Certificates that are not there; and nobody who would say who calls."""
    nexus: Nexus = run(HEADING)["nexus"]
    with pytest.raises(ConfigurationError, match=r"ssl_cert_path|jwt_audience|/etc/ssl/certs/nexus\.crt"):
        async with nexus.serving():
            pass
