"""Who may do what: one table of callers and kinds of access, and the same verdict by every way in."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import guarded_app
import pytest
from token_issuer import secret_token
from visitors import VISITORS, Seen

from nexus_core import Invocation, Principal
from nexus_core.runs.status import RunStatus

ALLOWED = Principal("alice", frozenset({"data.read", "data.write"}), tenant_id="acme")


def token(**claims: Any) -> str:
    return secret_token(guarded_app.SECRET, **claims)


CALLERS = {
    "nobody": lambda: None,
    "a forged token": lambda: secret_token("another secret, which is long enough too", permissions=["*"]),
    "an expired token": lambda: token(permissions=["*"], exp=int(time.time()) - 60),
    "text that is no token": lambda: "abc",
    "lacking": lambda: token(sub="bob", permissions=[]),
    "lacking one": lambda: token(sub="bob", permissions=["data.read"]),
    "of another tenant": lambda: token(permissions=["data.read"], tenant_id="other"),
    "limited by its scope": lambda: token(permissions=["*"], sub="bob", scope="openid data.read"),
    "allowed": lambda: token(permissions=["data.read", "data.write"]),
    "allowed by a wildcard": lambda: token(permissions=["data.*"]),
}
STRANGERS = {"nobody", "a forged token", "an expired token", "text that is no token"}
THE_MAIN_ONES = ("nobody", "a forged token", "lacking", "allowed")
"""For the ways in that take a process for each access."""

READERS = {"lacking one", "of another tenant", "limited by its scope"}
KINDS = ("execute", "execute open", "list", "describe", "runs", "run", "follow", "cancel", "session")


class Platform:
    """The served platform, with what its allowed caller has there."""

    def __init__(self, nexus: Any, urls: dict[str, str], loop: asyncio.AbstractEventLoop) -> None:
        self.nexus, self.urls, self.loop = nexus, urls, loop
        self.run = self.do(self._run())
        self.session = self.do(self._session())

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    async def _run(self) -> Any:
        run = self.nexus.submit(Invocation("guarded", {}, principal=ALLOWED))
        await run.wait()
        return run

    async def _session(self) -> Any:
        return await (await self.nexus.session_store()).create("python", ALLOWED.identity)

    async def _lasting(self) -> Any:
        run = self.nexus.submit(Invocation("lasting", {}, principal=ALLOWED))
        await run.started_or_rejected()
        return run

    def what(self, kind: str) -> str:
        """Return what a kind of access is to: always something of the allowed caller's, or that it may use."""
        if kind == "cancel":
            return str(self.do(self._lasting()).id)
        found = {"run": self.run.id, "follow": self.run.id, "session": self.session.id, "execute open": "shared_by_all"}
        return str(found.get(kind, "guarded"))


@pytest.fixture(name="platform", scope="module")
def platform_fixture(serving: Any) -> Any:
    nexus = guarded_app.build()
    with serving(nexus) as (urls, loop):
        yield Platform(nexus, urls, loop)
        for run in nexus.runs.running():
            run.cancel()


def verdict(platform: Platform, caller: str, kind: str, what: str) -> Seen:
    """Return what a caller must get: the table."""
    if caller in STRANGERS:
        return Seen(code="authentication_failed")
    names = ["shared_by_all"]
    if caller in READERS:
        names = ["lasting", "shared_by_all"]
    elif caller != "lacking":
        names = ["guarded", "lasting", "shared_by_all"]
    may = "guarded" in names
    own = caller.startswith("allowed")
    workflow = platform.nexus.workflows.get("guarded")
    described = "guarded", workflow.input_schema, workflow.description
    denied = {
        "execute": "permission_denied", "describe": "workflow_not_found", "run": "run_not_found",
        "follow": "run_not_found", "cancel": "run_not_found", "session": "session_not_found", "runs": None,
    }  # fmt: skip
    granted: dict[str, Any] = {
        "execute": 2, "describe": described, "run": (what, "completed", "alice"), "follow": "workflow.completed",
        "cancel": (what, True), "session": 1, "runs": None,
    }  # fmt: skip
    if kind == "execute open":
        return Seen(1)
    if kind == "list":
        return Seen(names)
    return Seen(granted[kind]) if (may if kind in ("execute", "describe") else own) else Seen(code=denied[kind])


@pytest.mark.parametrize(
    ("visitor", "caller"),
    [(each, name) for each in VISITORS for name in (THE_MAIN_ONES if each.takes_a_process else CALLERS)],
    ids=lambda each: getattr(each, "__name__", each),
)
async def test_the_verdict_is_the_same_by_every_way_in(platform: Platform, visitor: Any, caller: str) -> None:
    """All kinds of access at once: each is a request, or a process, of its own."""
    kinds = [kind for kind in KINDS if kind.split()[0] in visitor.kinds]
    visit = visitor(platform.urls)
    targets = {kind: platform.what(kind) for kind in kinds}
    found = await asyncio.gather(*(visit(kind.split()[0], targets[kind], CALLERS[caller]()) for kind in kinds))
    for kind, seen in zip(kinds, found, strict=True):
        wanted = verdict(platform, caller, kind, targets[kind])
        if kind == "runs" and wanted.code is None:  # others have runs of their own here
            assert (platform.run.id in seen.value) == caller.startswith("allowed")
            continue
        assert (seen.value, seen.code) == (wanted.value, wanted.code), (kind, seen)
        assert "data." not in (seen.detail or "") or seen.code == "permission_denied"


@pytest.mark.parametrize("kind", ["describe", "run", "session"])
async def test_what_is_anothers_looks_as_if_it_were_not_there(platform: Platform, kind: str) -> None:
    bob = CALLERS["lacking"]()
    for visitor in VISITORS:
        if kind not in visitor.kinds or visitor.__name__ in ("CommandLineInProcess", "McpStdio"):
            continue
        there, nowhere = platform.what(kind), "x" * len(platform.what(kind))
        answers = [await visitor(platform.urls)(kind, what, bob) for what in (there, nowhere)]
        assert answers[0].code == answers[1].code
        assert (answers[0].detail or "").replace(there, "") == (answers[1].detail or "").replace(nowhere, "")


def test_what_strangers_and_others_tried_changed_nothing(platform: Platform) -> None:
    assert platform.run.status is RunStatus.COMPLETED
    [lasting, *_] = [run for run in platform.nexus.runs.running() if run.owner == ALLOWED.identity] or [None]
    assert lasting is None or not lasting.cancel_requested
