"""Platforms with sessions, alone or several on one store, and callers of theirs."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import nexus_sessions.plugin
import pytest

from nexus_core import Caller, Context, Invocation, Principal
from nexus_core.testing import isolated_nexus

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    for name in [each for each in os.environ if each.startswith("NEXUS_") or each == "REDIS_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(name="make")
def make_fixture():
    """Make a platform with sessions, and with a workflow `put` that changes them."""

    def make(*plugins, manager=None, **options):
        nexus = isolated_nexus(nexus_sessions.plugin.SessionPlugin, *plugins, **options)
        if manager is not None:
            nexus.register_session_manager(manager)
        nexus.register("put", put)
        nexus.told = []
        nexus.events.listen(lambda event: nexus.told.append(event) if event.type.startswith("session.") else None)
        return nexus

    return make


@pytest.fixture(name="start")
async def start_fixture(make):
    """Start a platform with sessions."""
    async with AsyncExitStack() as stack:

        async def start(*plugins, **options):
            return await stack.enter_async_context(make(*plugins, **options))

        yield start


@pytest.fixture(name="start_shared", params=["sqlite", "redis"])
def start_shared_fixture(request, start, tmp_path):
    """Start platforms that share their sessions."""
    if request.param == "sqlite":
        plugins, options = (), {"sqlite_path": str(tmp_path / "shared.db")}
    else:
        plugins = (pytest.importorskip("nexus_redis.plugin").RedisPlugin,)
        options = {"redis_url": request.getfixturevalue("redis_server").url, "redis_timeout": 10}

    async def start_shared(**more):
        return await start(*plugins, **{"session_backend": request.param} | options | more)

    return start_shared


@pytest.fixture(name="view")
def view_fixture():
    """What a user of a platform sees."""
    return view


@pytest.fixture(name="put")
def put_fixture():
    """A workflow that changes its caller's session."""
    return put


@pytest.fixture(name="call")
def call_fixture():
    """Call `put` with a session."""
    return call


async def put(context: Context, key: str = "a", value: int = 1) -> dict:
    context.session.state[key] = value
    return context.session.state


def principal(user):
    return Principal(user, frozenset({f"of.{user}"}), tenant_id="acme")


async def view(nexus, user=None):
    return await nexus.view(Caller(principal=principal(user) if user else None))


async def call(nexus, session, channel="api", user=None, **params):
    caller = principal(user) if user else None
    return await nexus.invoke(Invocation("put", params, channel, principal=caller, session_id=session.id))
