"""Calls that are counted before anybody asks who calls: each once, by address, on every channel."""

from __future__ import annotations

import pytest
from token_issuer import SECRET, secret_token

from nexus_core import ConfigurationError, Invocation, Nexus, Principal, RateLimited

for other in ("nexus_api", "nexus_auth", "nexus_mcp"):
    pytest.importorskip(other)
testing = pytest.importorskip("nexus_testing")


def make(**options):
    options = {"enable_rate_limiting": True, "rate_limit_before_auth": True, "enable_auth": True, "jwt_secret": SECRET,
               "jwt_audience": ["*"]} | options  # fmt: skip
    nexus = Nexus(**options)
    nexus.register("often", lambda: 1)
    nexus.register("seldom", lambda: 1, {"rate_limit": "2/minute"})
    return nexus


def test_a_workflows_own_limit_holds_on_every_channel():
    with testing.NexusTestClient(make(rate_limit_per_minute=100), token=secret_token()) as client:
        assert client.mcp_call("seldom")["success"]
        assert client.post("/api/workflows/seldom/execute", {}).status_code == 200
        assert client.post("/api/workflows/seldom/execute", {}).status_code == 429
        assert client.mcp_call("seldom")["error"]["code"] == "rate_limited"
        assert client.mcp_call("often")["success"]


def test_a_call_through_mcp_counts_once():
    with testing.NexusTestClient(make(rate_limit_per_minute=3), token=secret_token()) as client:
        assert [client.mcp_call("often")["success"] for _ in range(3)] == [True] * 3
        assert client.post("/api/workflows/often/execute", {}).status_code == 429


def test_callers_behind_a_trusted_proxy_have_budgets_of_their_own():
    nexus = make(rate_limit_per_minute=2, trusted_proxies=["127.0.0.1"])
    with testing.NexusTestClient(nexus, token=secret_token()) as client:
        for number in range(5):
            headers = {"x-forwarded-for": f"203.0.113.{number}"}
            assert client.post("/api/workflows/often/execute", {}, headers=headers).status_code == 200


async def test_in_process_callers_are_counted_too():
    async with make(rate_limit_per_minute=3) as nexus:

        async def call():
            try:
                await nexus.invoke(Invocation("often", {}, principal=Principal("ann")))
            except RateLimited:
                return False
            return True

        assert [await call() for _ in range(5)] == [True] * 3 + [False] * 2


async def test_the_budget_of_an_address_is_taken_from_by_address():
    async with make(rate_limit_per_minute=3) as nexus:
        left = await nexus.rate_limiter.take(principal=Principal("ann"), address="203.0.113.9")
        assert left.remaining == 2
        with pytest.raises(ConfigurationError, match="needs an address"):
            await nexus.rate_limiter.take(principal=Principal("ann"))
        with pytest.raises(ConfigurationError, match="a principal or an address"):
            await nexus.rate_limiter.take()


async def test_who_guesses_from_one_address_shuts_out_no_other():
    async with make(rate_limit_per_minute=3) as nexus:
        for _ in range(3):
            with pytest.raises(Exception, match="not valid"):
                await nexus.auth_manager.authenticate("Bearer wrong", "203.0.113.9")
        with pytest.raises(RateLimited):
            await nexus.auth_manager.authenticate(f"Bearer {secret_token()}", "203.0.113.9")
        assert (await nexus.auth_manager.authenticate(f"Bearer {secret_token()}", "203.0.113.10")).user_id
