"""Authentication and authorization by a provider of the application's own."""

from __future__ import annotations

from typing import Any

import pytest
from guide_callers import CHANNELS, Client
from guide_text import run, served

from nexus_core import AuthenticationError

HEADING = "Authentication & Authorization"
USERS = {
    "of alice": {"id": "alice", "username": "Alice", "permissions": ["data:read"], "tenant_id": "acme"},
    "of bob": {"id": "bob", "username": "Bob", "permissions": [], "tenant_id": "acme"},
}


@pytest.fixture
def nexus() -> Any:
    space = run(HEADING, AuthenticationError=AuthenticationError)
    service = lambda _, credentials: USERS.get(credentials["token"].replace("-", " "))  # noqa: E731
    space["CustomAuthProvider"].validate_user = service  # the guide's "your auth service"
    nexus = space["nexus"]
    nexus.register("read", lambda: "data", {"required_permissions": ["data.read"]})
    nexus.register("whoami", lambda: "somebody")
    return nexus


@pytest.mark.parametrize("channel", CHANNELS)
async def test_the_provider_decides_on_every_channel(nexus: Any, channel: str) -> None:
    async with served(nexus) as urls:
        assert (await Client(urls, "of-alice").call(channel, "read", {})).result == "data"
        assert (await Client(urls, "of-bob").call(channel, "read", {})).code == "permission_denied"
        assert (await Client(urls, "of-bob").call(channel, "whoami", {})).result == "somebody"
        refused = await Client(urls, "of-mallory").call(channel, "whoami", {})
        assert (refused.code, refused.reply["detail"]) == ("authentication_failed", "Invalid credentials")
        assert (await Client(urls).call(channel, "whoami", {})).code == "authentication_failed"


async def test_discovery_shows_what_one_may_run(nexus: Any) -> None:
    async with served(nexus) as urls:
        for token, names in (("of-alice", {"read", "whoami"}), ("of-bob", {"whoami"})):
            caller = Client(urls, token)
            listed = (await caller.http("GET", "/api/workflows")).json()["workflows"]
            assert {each["name"] for each in listed} == names
            tools = (await caller.mcp_request("tools/list"))["result"]["tools"]
            assert {each["name"] for each in tools} & {"read", "whoami"} == names
            _, out, _ = await caller.nexus("list")
            assert ('"read"' in out) == ("read" in names)


async def test_the_application_asks_the_same(nexus: Any) -> None:
    manager = nexus.auth_manager
    async with nexus:
        alice = await manager.authenticate("Bearer of-alice")
        assert (alice.user_id, alice.tenant_id) == ("alice", "acme")
        assert await manager.allows(alice, "data.read")
        assert not await manager.allows(await manager.authenticate("Bearer of-bob"), "data.read")
        for wrong in ("Bearer of-mallory", None):
            with pytest.raises(AuthenticationError):
                await manager.authenticate(wrong)
