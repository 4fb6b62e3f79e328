"""API keys: made, used, expired, revoked; and what becomes of them when something is wrong with their file."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from nexus_auth.credentials import read
from nexus_auth.methods.api_key import CHECK_SECONDS, ApiKeyMethod
from nexus_auth.methods.api_keys import ApiKey, new_key, parts_of
from nexus_auth.methods.key_file import KeyFile
from nexus_auth.rejection import Rejected, Unavailable
from token_issuer import SECRET, secret_token

from nexus_core import AuthenticationError, BackendUnavailable, ConfigurationError, PermissionDenied
from nexus_core.concurrency.threads import DaemonThreads

SOON = 10.0
"""Seconds within which a change of the file is seen on any machine. How soon it must be is tested on a clock."""


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "keys.json")


def add(file, user="alice", permissions=("data.read",), **members):
    token, key = new_key(user, permissions, **members)
    file.add(key)
    return token


async def within(seconds, condition):
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.01)


@pytest.fixture
def started(platform, file):
    async def start(**options):
        return await platform(**{"auth_strategy": "api_key", "api_key_file": str(file.path), **options})

    return start


async def test_a_key_tells_who_calls(started, file):
    token = add(file, tenant="acme", permissions=["data.read", "x.*"], name="CI")
    running = await started()
    assert await running.call("whoami", token) == {
        "user": "alice", "tenant": "acme", "permissions": ["data.read", "x.*"], "scopes": [],
    }  # fmt: skip
    assert await running.call("read", token) == "data"
    assert isinstance(await running.call("write", token), PermissionDenied)


async def test_every_way_to_send_a_key(started, file):
    token = add(file)
    running = await started()
    for authorization in (f"Bearer {token}", f"bearer  {token}", f"ApiKey {token}", f"APIKEY {token}"):
        assert await running.user(authorization=authorization) == "alice", authorization
    assert await running.user(headers={b"x-api-key": token.encode()}) == "alice"
    assert await running.user(headers={b"x-api-key": b"\xff\xfe"}) is None
    both = {"authorization": "Bearer wrong", "headers": {b"x-api-key": token.encode()}}
    assert await running.user(**both) is None, "there is one answer to who calls: that of Authorization"


async def test_keys_that_are_none(started, file):
    token = add(file)
    other = add(file, "bob")
    running = await started()
    begin, secret = token.rsplit("_", 1)[0], parts_of(token)[1]
    wrong = [
        "nxk_", "nxk__", f"nxk__{secret}", begin, f"{begin}_", f"{token}x", token[:-1], token.upper(), token[4:],
        f"{'_'.join(token.split('_')[:2])}_{parts_of(other)[1]}", f"nxk_{sha256(secret.encode()).hexdigest()}",
        f"{'_'.join(token.split('_')[:2])}_{sha256(secret.encode()).hexdigest()}", f"{token}\n", "nxk_" + "9" * 5000,
        secret, "Basic x",
    ]  # fmt: skip
    for each in wrong:
        assert type(await running.call("whoami", each)) is AuthenticationError, each
        assert type(await running.call("whoami", authorization=f"ApiKey {each}")) is AuthenticationError, each
    assert await running.user(token) == "alice"


class Time:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clocks():
    """A monotonic clock, and the date."""
    return Time(), Time(time.time())


@pytest.fixture
def method(file, clocks):
    return ApiKeyMethod(file, DaemonThreads("test"), *clocks)


async def test_a_key_ends(method, file, clocks):
    token, (_, now) = add(file, seconds=60), clocks
    await method.open()
    found = await method.verify(read(f"Bearer {token}"))
    assert found.expires_at == pytest.approx(now.now + 60, abs=10)
    now.now = found.expires_at - 0.1
    assert (await method.verify(read(f"Bearer {token}"))).principal.user_id == "alice"
    now.now = found.expires_at
    with pytest.raises(Rejected, match="is expired"):
        await method.verify(read(f"Bearer {token}"))


async def test_a_key_that_has_ended_lets_nobody_in(started, file):
    ended, good = add(file, seconds=-1), add(file, seconds=60)
    running = await started()
    assert (await running.user(ended), await running.user(good)) == (None, "alice")


async def test_each_check_of_the_file_counts_for_the_call_that_makes_it(method, file, clocks, caplog):
    """A call never has the answer of the file as it was before the check, and a failure is logged once."""
    clock, _ = clocks
    await method.open()
    credential = read(f"Bearer {add(file)}")

    async def answer(later):
        clock.now += later
        try:
            return (await method.verify(credential)).principal.user_id
        except (Rejected, Unavailable) as exc:
            return type(exc)

    assert [await answer(later) for later in (0, CHECK_SECONDS - 0.01, 0.01)] == [Rejected, Rejected, "alice"]
    good = file.path.read_text()
    file.path.write_text("{")
    assert await answer(0) == "alice"
    for later in (CHECK_SECONDS, 0, CHECK_SECONDS):
        assert await answer(later) is Unavailable
        assert caplog.text.count("API keys are rejected") == 1
    file.path.write_text(good)
    assert await answer(CHECK_SECONDS) == "alice"
    file.revoke(parts_of(credential.token)[0])
    assert [await answer(later) for later in (CHECK_SECONDS - 0.01, 0.01)] == ["alice", Rejected]
    assert 2 * CHECK_SECONDS < 1  # an accepted key is remembered for as long


async def refused(running, token):
    return await running.user(token) is None


async def test_a_key_that_is_revoked_is_refused_soon(started, file):
    token, other = add(file), add(file, "bob")
    running = await started()
    for _ in range(20):
        assert await running.user(token) == "alice"
    file.revoke(parts_of(token)[0])
    await within(SOON, lambda: refused(running, token))
    assert await running.user(other) == "bob"


async def test_a_key_that_is_new_is_accepted_soon(started, file):
    running = await started()
    token = add(file)

    async def accepted():
        return await running.user(token) == "alice"

    await within(SOON, accepted)


async def test_no_file_means_no_keys(started, file, caplog):
    running = await started()
    assert "contains no API keys" in caplog.text
    assert await running.user("nxk_0123456789ab_" + "x" * 43) is None
    token = add(file)

    async def accepted():
        return await running.user(token) == "alice"

    await within(SOON, accepted)
    file.path.unlink()
    await within(SOON, lambda: refused(running, token))


# The file


def hash_of(secret="x"):
    return sha256(secret.encode()).hexdigest()


KEY = {"id": "a", "hash": hash_of(), "user": "u"}
RUBBISH = {
    "nothing": "",
    "no JSON": "{",
    "another program's": '{"name": "package", "version": 1}',
    "a list": "[]",
    "a text": '"keys"',
    "another version": '{"version": 2, "keys": []}',
    "keys of another kind": '{"version": 1, "keys": {}}',
    "a key that is a text": '{"version": 1, "keys": ["nxk"]}',
    "a key without an id": json.dumps({"version": 1, "keys": [{"hash": hash_of(), "user": "u"}]}),
    "a key without a hash": json.dumps({"version": 1, "keys": [{"id": "a", "hash": "", "user": "u"}]}),
    "a hash that is a number": json.dumps({"version": 1, "keys": [{**KEY, "hash": 7}]}),
    "a user that is a number": json.dumps({"version": 1, "keys": [{**KEY, "user": 7}]}),
    "a user with a line break": json.dumps({"version": 1, "keys": [{**KEY, "user": "a\nb"}]}),
    "permissions that are a number": json.dumps({"version": 1, "keys": [{**KEY, "permissions": 7}]}),
    "an end that is a text": json.dumps({"version": 1, "keys": [{**KEY, "expires_at": "never"}]}),
    "an end that is no number": json.dumps({"version": 1, "keys": [{**KEY, "expires_at": float("nan")}]}),
    "a name that is an object": json.dumps({"version": 1, "keys": [{**KEY, "name": {}}]}),
    "a member that nobody knows": json.dumps({"version": 1, "keys": [{**KEY, "admin": True}]}),
    "nested deep": "[" * 100_000,
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("case", RUBBISH)
async def test_a_file_of_something_else(started, file, case):
    text = RUBBISH[case]
    file.path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=r"^api_key_file: .*keys\.json"):
        await started()
    with pytest.raises(ConfigurationError, match=r"^api_key_file: .*keys\.json"):
        file.add(new_key("alice", [])[1])
    assert file.path.read_bytes() == (text if isinstance(text, bytes) else text.encode()), "it is left alone"


async def test_a_file_that_breaks_while_it_is_used(started, file, caplog):
    token = add(file)
    running = await started(auth_providers=["api_key", "jwt"], auth_strategy=None, jwt_secret=SECRET)
    assert await running.user(token) == "alice"
    good = file.path.read_text()
    file.path.write_text(good[: len(good) // 2])

    async def fails():
        return type(await running.call("whoami", token)) is BackendUnavailable

    await within(SOON, fails)
    assert await running.user(secret_token(sub="bob")) == "bob", "other ways go on"
    for _ in range(20):
        assert await fails()
    assert len([each for each in caplog.records if "API keys are rejected" in each.getMessage()]) == 1
    file.path.write_text(good)

    async def accepted():
        return isinstance(await running.call("whoami", token), dict)

    await within(SOON, accepted)


async def test_a_file_that_everybody_may_write_to(started, file):
    token = add(file)
    running = await started()
    assert await running.user(token) == "alice"
    file.path.chmod(0o666)

    async def fails():
        return type(await running.call("whoami", token)) is BackendUnavailable

    await within(SOON, fails)
    with pytest.raises(ConfigurationError, match=r"writable by every user: chmod 600"):
        await started()
    file.path.chmod(0o644)
    assert await (await started()).user(token) == "alice"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user(file, tmp_path):
    add(file)
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    file.path.chmod(0o644)
    code = f"""
import os, sys
from pathlib import Path
from nexus_auth.methods.key_file import KeyFile
file = KeyFile(Path({str(file.path)!r}))
os.setuid(54321)
try:
    print(len(file.read()))
except Exception as exc:
    print(exc)
"""

    def as_somebody():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert as_somebody() == "1", "root's files are as good as one's own"
    os.chown(file.path, 54322, -1)
    assert "belongs to another user (uid 54322)" in as_somebody()
    os.chown(file.path, 54321, -1)
    assert as_somebody() == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_root_lets_nobody_in_by_a_file_that_another_user_may_write(started, file):
    token = add(file)
    running = await started()
    assert await running.user(token) == "alice"
    os.chown(file.path, 54321, -1)

    async def fails():
        return isinstance(await running.call("whoami", token), BackendUnavailable)

    await within(SOON, fails)
    with pytest.raises(ConfigurationError, match=r"belongs to another user \(uid 54321\) than this process \(uid 0\)"):
        await started()
    administered = KeyFile(file.path, administers=True)  # nexus keys, of root
    assert administered.revoke(administered.read()[0].id) is not None
    assert file.path.stat().st_uid == 54321


def test_the_file_is_private_holds_no_secret_and_keeps_its_mode(file):
    token = add(file)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert parts_of(token)[1] not in file.path.read_text()
    file.path.chmod(0o640)
    add(file)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o640
    assert {each.name for each in file.path.parent.iterdir()} == {"keys.json", "keys.json.lock"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_keeps_its_owner(file):
    add(file)
    os.chown(file.path, 54321, 54321)
    add(KeyFile(file.path, administers=True))
    assert (file.path.stat().st_uid, file.path.stat().st_gid) == (54321, 54321)


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "keys.json"
    link.symlink_to(tmp_path / "real" / "keys.json")
    add(KeyFile(link))
    add(KeyFile(link))
    assert link.is_symlink()
    assert len(KeyFile(tmp_path / "real" / "keys.json").read()) == 2


def test_writers_do_not_lose_each_other_s_keys(file):
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda number: add(KeyFile(file.path), f"user-{number}"), range(40)))
    assert {key.user for key in file.read()} == {f"user-{number}" for number in range(40)}
    assert len({parts_of(token)[0] for token in tokens}) == 40


def test_revoking(file):
    token = add(file)
    key_id = parts_of(token)[0]
    assert file.revoke("unknown") is None
    first = file.revoke(key_id)
    assert first.status(time.time()) == "revoked"
    assert file.revoke(key_id) == first, "again changes nothing"


def test_a_key_is_read_as_it_was_written():
    _, key = new_key("alice", ["b", "a", "a"], tenant="acme", name="CI", seconds=5)
    assert ApiKey.of(json.loads(json.dumps(key.to_dict()))) == key
    assert key.permissions == ("a", "b")


@pytest.mark.parametrize("user", ["", " ", "a\nb", "x" * 300])
def test_a_user_that_is_none(user):
    with pytest.raises(TypeError):
        new_key(user, [])
