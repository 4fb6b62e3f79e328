"""Sessions over real sockets, for authenticated callers; and in processes that are killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guide_manager import EnterpriseSessionManager
from nexus_sessions import SessionManager
from token_issuer import secret_token

from nexus_core import Nexus, SessionNotFound
from nexus_core.plugins.discovery import discover

httpx2 = pytest.importorskip("httpx2")
SECRET = "a secret of at least thirty-two bytes"


def bearer(user):
    token = secret_token(SECRET, sub=user, permissions=["data.read", "data.write"])
    return {"authorization": f"Bearer {token}"}


@pytest.fixture(name="serve")
async def serve_fixture(put):
    """Serve a platform over REST, to callers who say who they are. Gives it and its address."""
    for name in ("api", "auth", "hypercorn", "ratelimit"):
        pytest.importorskip(f"nexus_{name}.plugin")
    others = sorted({record.name for record in discover()} - {"api", "auth", "hypercorn", "ratelimit", "sessions"})
    opened = []

    async def serve(manager=None, **options):
        auth = {"enable_auth": True, "jwt_secret": SECRET, "enable_rate_limiting": True, "rate_limit_per_minute": 1000}
        nexus = Nexus(disabled_plugins=others, api_port=0, **(auth | options))
        nexus.register("put", put)
        if manager is not None:
            nexus.register_session_manager(manager)
        opened.append(nexus.serving())
        listeners = await opened[-1].__aenter__()
        return nexus, next(each.url for each in listeners if "api" in each.channels)

    yield serve
    for each in opened:
        await each.__aexit__(None, None, None)


async def test_metadata_are_what_the_caller_really_has(serve):
    nexus, url = await serve(manager=EnterpriseSessionManager())
    async with httpx2.AsyncClient(base_url=url, headers=bearer("ann")) as client:
        made = (await client.post("/api/sessions")).json()
        assert "metadata" not in made
        path, headers = f"/api/sessions/{made['session_id']}", {"x-nexus-session": made["session_id"]}
        session = await nexus.session_manager.get_session(made["session_id"])
        assert (session.user_id, session.metadata["tenant_id"]) == ("acme/ann", "acme")
        assert session.metadata["permissions"] == ["data.read", "data.write"]
        assert (session.metadata["rate_limits"]["limit"], session.metadata["channel"]) == (1000, "api")

        answer = await client.post("/api/workflows/put/execute", json={"key": "a", "value": 1}, headers=headers)
        assert answer.json()["result"] == {"a": 1}
        changed = (await client.patch(path, json={"state": {"b": 2}})).json()
        assert changed["state"] == {"a": 1, "b": 2}
        stale = await client.patch(path, json={"state": {"b": 3}, "version": made["version"]})
        assert (stale.status_code, stale.json()["version"]) == (409, changed["version"])

        for user in ("bob", "ann/", ""):
            answers = [
                await client.get(path, headers=bearer(user or "x")),
                await client.get("/api/sessions/guessed", headers=bearer(user or "x")),
            ]
            assert {each.status_code for each in answers} == {404}
            assert answers[0].json()["detail"] == answers[1].json()["detail"]
        assert (await client.delete(path)).status_code == 204
        assert (await client.get(path)).status_code == 404


async def test_a_slow_manager_delays_no_other_request(serve):
    class Sleeps(SessionManager):
        def create_session(self, channel, user_id=None):
            time.sleep(2)
            return super().create_session(channel, user_id)

    nexus, url = await serve(manager=Sleeps(), rate_limit_per_minute=1_000_000)
    nexus.register("one", lambda: 1)
    async with httpx2.AsyncClient(base_url=url, headers=bearer("ann"), timeout=20) as client:
        await client.post("/api/workflows/one/execute", json={})
        slow = [asyncio.create_task(client.post("/api/sessions")) for _ in range(5)]
        durations = []
        while not all(task.done() for task in slow):
            begin = time.monotonic()
            assert (await client.post("/api/workflows/one/execute", json={})).json()["result"] == 1
            durations.append(time.monotonic() - begin)
        assert {task.result().status_code for task in slow} == {201}
    assert len(durations) > 5
    assert sorted(durations)[len(durations) // 2] < 0.2
    assert max(durations) < 1.5


async def test_switched_off_sessions_are_not_there(serve):
    _, url = await serve(enable_sessions=False)
    async with httpx2.AsyncClient(base_url=url, headers=bearer("ann")) as client:
        refused = await client.post("/api/sessions")
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert "enable_sessions" in refused.json()["detail"]


WRITER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
import nexus_sessions.plugin
from guide_manager import EnterpriseSessionManager
from nexus_core import Caller, Principal
from nexus_core.testing import isolated_nexus

async def main():
    nexus = isolated_nexus(nexus_sessions.plugin.SessionPlugin, session_backend="sqlite", sqlite_path=sys.argv[1])
    nexus.register_session_manager(EnterpriseSessionManager())
    async with nexus:
        ann = await nexus.view(Caller(principal=Principal("ann", tenant_id="acme")))
        session = await ann.create_session("api")
        print(session.id, flush=True)
        for number in range(10 ** 9):
            changed = await ann.update_session(session.id, {"number": number})
            print(number, changed.version, flush=True)

asyncio.run(main())
"""


async def test_sessions_survive_processes_that_are_killed(start, view, tmp_path):
    path = tmp_path / "state.db"
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = []
    for process in processes:
        session_id, last = process.stdout.readline().strip(), None
        for line in process.stdout:
            last = [int(word) for word in line.split()]
            if last[0] == 20:
                process.kill()
        process.wait()
        told.append((session_id, last))
    nexus = await start(session_backend="sqlite", sqlite_path=str(path))
    ann, bob = await view(nexus, "ann"), await view(nexus, "bob")
    for session_id, (number, version) in told:
        session = await ann.session(session_id)
        assert session.version - version == session.state["number"] - number
        assert session.version - version in (0, 1)  # one more may have been committed, and not told
        assert session.metadata["tenant_id"] == "acme"
        with pytest.raises(SessionNotFound):
            await bob.session(session_id)
        assert (await ann.update_session(session_id, {"more": 1})).version == session.version + 1
