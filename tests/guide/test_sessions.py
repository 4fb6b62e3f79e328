"""Pattern 5: a session manager that adds what it knows, tells every channel of changes, and cleans up."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import pytest
from guide_callers import CHANNELS, Client
from guide_text import run, served

from nexus_core import Caller, Context, Nexus, SessionNotFound
from nexus_core.testing import eventually

HEADING = "Pattern 5: Session Management"


@pytest.fixture
def nexus(with_redis: Any) -> Nexus:
    nexus: Nexus = run(HEADING, datetime=datetime)["nexus"]

    @nexus.workflow
    async def seen(context: Context) -> dict[str, Any]:
        assert context.session is not None
        return dict(context.session.state)

    return nexus


def option(nexus: Nexus, name: str) -> Any:
    return next(getattr(model, name) for model in nexus.every_settings if name in type(model).model_fields)


async def test_sessions_have_the_managers_metadata(nexus: Nexus, with_redis: Any) -> None:
    async with served(nexus) as urls:
        made = (await Client(urls).http("POST", "/api/sessions")).json()
        kept = await (await nexus.view(Caller())).session(made["session_id"])
        assert kept.metadata.keys() == {"tenant_id", "permissions", "rate_limits", "created_at", "channel"}
        assert kept.metadata["channel"] == "api"
        assert datetime.fromisoformat(kept.metadata["created_at"])
        assert 3500 < made["expires_at"] - made["created_at"] < 3601  # session_ttl
        assert any(made["session_id"].encode() in bytes(key) for key in with_redis.ask("KEYS", "*"))
    assert option(nexus, "session_cleanup_interval") == 300


async def test_a_change_is_seen_and_told_on_every_channel(nexus: Nexus) -> None:
    async with served(nexus) as urls:
        made = (await Client(urls).http("POST", "/api/sessions")).json()["session_id"]
        caller = Client(urls, session=made)
        for channel in CHANNELS:
            assert (await caller.call(channel, "seen", {})).result == {}
        follower = await (await nexus.view(Caller())).events()
        changed = await caller.http("PATCH", f"/api/sessions/{made}", json={"state": {"theme": "dark"}})
        assert changed.status_code == 200, changed.text
        while (event := await follower.next(10)) is not None and event.type != "session.updated":
            pass
        assert event is not None
        assert set(event.data["channels"]) == set(CHANNELS)
        for channel in CHANNELS:
            assert (await caller.call(channel, "seen", {})).result == {"theme": "dark"}


async def test_expired_sessions_are_cleaned_up_with_logging(with_redis: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    manager = run(HEADING, datetime=datetime)["EnterpriseSessionManager"]
    nexus = Nexus(enable_sessions=True, session_backend="redis", session_ttl=0.3, session_cleanup_interval=0.1)
    nexus.register_session_manager(manager())
    async with served(nexus) as urls:
        made = (await Client(urls).http("POST", "/api/sessions")).json()["session_id"]
        await eventually(lambda: f"Cleaning up expired session: {made}" in caplog.messages, 30)
        assert (await Client(urls).http("GET", f"/api/sessions/{made}")).json()["code"] == SessionNotFound.code
