"""Leases: what a credential has opened ends with it, whoever authenticates."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from nexus_core import AuthenticationError, Caller, Nexus, Principal, Stage, hookimpl
from nexus_core.errors import BackendUnavailable, CredentialEnded
from nexus_core.pipeline import credentials
from nexus_core.pipeline.credentials import CHANGED, EXPIRED, REVOKED, UNKNOWN
from nexus_core.testing import eventually
from nexus_core.types.principal import Validity

LONG = 5.0


class Authenticator:
    """A plugin's own authentication: who sends a name has it, until it is revoked."""

    stage = Stage.AUTHENTICATE

    def __init__(self):
        self.revoked = set()
        self.names = {}
        self.permissions = frozenset({"read", "write"})
        self.scopes = frozenset()
        self.trouble = None
        self.checks = 0
        self.validity = Validity()

    async def __call__(self, invocation, call_next):
        if invocation.principal is None:
            self.checks += 1
            name = invocation.credentials["name"]
            if self.trouble is not None:
                raise self.trouble
            if name in self.revoked:
                raise AuthenticationError("revoked")
            invocation.principal = Principal(self.names.get(name, name), self.permissions, self.scopes)
            invocation.validity = self.validity and self.validity._replace(key=name)
        return await call_next(invocation)

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]

    @hookimpl
    def nexus_register_authorizers(self):
        return [SimpleNamespace(granted=self._granted)]

    async def _granted(self, principal, permissions):
        return permissions


@pytest.fixture
def authenticator():
    return Authenticator()


@pytest.fixture
async def nexus(authenticator):
    async with Nexus(plugins=[authenticator], discover=False) as nexus:
        yield nexus


async def lease_of(nexus, name="alice"):
    return (await nexus.view(Caller("api", credentials={"name": name}))).lease()


async def hold(lease):
    with lease:
        await asyncio.sleep(LONG)


async def ended(lease):
    begin = time.monotonic()
    with pytest.raises(CredentialEnded) as caught:
        await hold(lease)
    assert time.monotonic() - begin < LONG - 1
    assert asyncio.current_task().cancelling() == 0
    return caught.value.message


async def test_a_revocation_that_is_announced_ends_what_is_open(nexus, authenticator):
    holders = [asyncio.create_task(ended(await lease_of(nexus))) for _ in range(3)]
    await asyncio.sleep(0)
    others = asyncio.create_task(hold(await lease_of(nexus, "bob")))
    await asyncio.sleep(0)
    authenticator.revoked.add("alice")
    authenticator.checks = 0
    await asyncio.to_thread(nexus.credentials.recheck, "alice")
    assert await asyncio.gather(*holders) == [REVOKED] * 3
    assert authenticator.checks == 1
    nexus.credentials.recheck()
    await asyncio.sleep(0.05)
    assert not others.done()
    others.cancel()
    await asyncio.wait({others})
    assert len(nexus.credentials) == 0


async def test_a_check_is_asked_with_all_that_the_caller_had_sent():
    asked = []

    class Asks(Authenticator):
        async def __call__(self, invocation, call_next):
            asked.append(
                (invocation.channel, invocation.credentials, invocation.headers, invocation.query,
                 invocation.client_address, invocation.principal)
            )  # fmt: skip
            return await super().__call__(invocation, call_next)

    authenticator = Asks()
    async with Nexus(plugins=[authenticator], discover=False) as nexus:
        sent = {"headers": {b"x-api-key": b"k"}, "query": b"key=k", "client_address": "203.0.113.7"}
        lease = (await nexus.view(Caller("api", credentials={"name": "alice"}, **sent))).lease()
        holder = asyncio.create_task(ended(lease))
        await asyncio.sleep(0)
        authenticator.revoked.add("alice")
        nexus.credentials.recheck("alice")
        assert await holder == REVOKED
    assert asked == [("api", {"name": "alice"}, *sent.values(), None)] * 2


async def test_what_is_open_ends_when_its_caller_may_do_less(nexus, authenticator):
    for permissions, scopes in (({"read"}, ()), ({"read", "write"}, {"read"})):
        holder = asyncio.create_task(ended(await lease_of(nexus)))
        await asyncio.sleep(0)
        authenticator.permissions |= {"more"}
        nexus.credentials.recheck()
        await asyncio.sleep(0.05)
        assert not holder.done()
        authenticator.permissions, authenticator.scopes = frozenset(permissions), frozenset(scopes)
        nexus.credentials.recheck()
        assert await holder == CHANGED
        authenticator.permissions, authenticator.scopes = frozenset({"read", "write"}), frozenset()


async def test_an_expiry_ends_it_at_its_time(nexus, authenticator):
    authenticator.validity = Validity(time.time() + 0.2, time.time() + 30)
    lease = await lease_of(nexus)
    begin = time.time()
    assert await ended(lease) == EXPIRED
    assert time.time() >= begin + 0.1


async def test_what_is_accepted_past_its_end_is_good_until_it_is_refused(nexus, authenticator):
    authenticator.validity = Validity(time.time() - 1, time.time() + 0.3)
    begin = time.time()
    assert await ended(await lease_of(nexus)) == EXPIRED
    assert time.time() >= begin + 0.2


@pytest.mark.parametrize("validity", [None, Validity(check_at=0.0)], ids=["nothing is said", "it says when"])
async def test_a_credential_is_checked_again(nexus, authenticator, validity, monkeypatch):
    monkeypatch.setattr(credentials, "CHECK_SECONDS", 0.05)
    authenticator.validity = validity
    lease = await lease_of(nexus)
    authenticator.revoked.add("alice")
    assert await ended(lease) == REVOKED


async def test_nobody_can_say_whether_it_is_good(nexus, authenticator, monkeypatch):
    lease = await lease_of(nexus)
    holder = asyncio.create_task(hold(lease))
    await asyncio.sleep(0)
    authenticator.trouble = BackendUnavailable("away")
    nexus.credentials.recheck()
    await asyncio.sleep(0.05)
    assert not holder.done()
    monkeypatch.setattr(credentials, "UNKNOWN_SECONDS", 0.0)
    nexus.credentials.recheck()
    with pytest.raises(CredentialEnded, match=UNKNOWN):
        await holder


async def test_it_belongs_to_somebody_else_now(nexus, authenticator):
    lease = await lease_of(nexus)
    authenticator.names["alice"] = "eve"
    asyncio.get_running_loop().call_later(0.05, nexus.credentials.recheck)
    assert await ended(lease) == REVOKED


async def test_a_cancellation_from_outside_stays_one(nexus):
    holder = asyncio.create_task(hold(await lease_of(nexus)))
    await asyncio.sleep(0.01)
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert len(nexus.credentials) == 0


async def test_a_block_that_ends_by_itself_is_left_alone(nexus, authenticator):
    with await lease_of(nexus):
        await asyncio.sleep(0)
    authenticator.revoked.add("alice")
    nexus.credentials.recheck()
    await asyncio.sleep(0.02)
    assert asyncio.current_task().cancelling() == 0


async def test_an_error_of_the_block_is_raised_as_it_is(nexus):
    with pytest.raises(KeyError), await lease_of(nexus):
        raise KeyError("x")


async def test_who_was_not_asked_has_no_credential_that_could_end(nexus):
    for caller in (Caller("api"), Caller("python", principal=Principal("alice"))):
        with nexus.credentials.lease(caller):
            assert len(nexus.credentials) == 0


async def test_many_are_checked_a_few_at_a_time(nexus, authenticator):
    holders = [asyncio.create_task(hold(await lease_of(nexus, f"user{n}"))) for n in range(350)]
    await asyncio.sleep(0)
    authenticator.checks = 0
    nexus.credentials.recheck()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert authenticator.checks <= credentials.BATCH
    async with asyncio.timeout(LONG):
        while authenticator.checks < 350:
            await asyncio.sleep(0)
    for holder in holders:
        holder.cancel()
    await asyncio.wait(holders)


async def test_an_authenticator_that_says_nothing_of_validity_is_asked_again_and_again(
    nexus, authenticator, monkeypatch
):
    monkeypatch.setattr(credentials, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(credentials, "SHORTEST_PAUSE", 0.01)
    authenticator.validity = None
    holder = asyncio.create_task(ended(await lease_of(nexus)))
    begin = time.monotonic()
    await eventually(lambda: authenticator.checks == 4)  # the first opens it
    assert time.monotonic() - begin > 0.4
    authenticator.revoked.add("alice")
    assert await holder == REVOKED
