"""Providers of the application's own, as people write them: sync and async, good, broken and hanging."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter

import pytest
from nexus_auth import AuthProvider, JWTAuthProvider
from token_issuer import AUDIENCE, SECRET, secret_token

from nexus_core import AuthenticationError, BackendUnavailable, ConfigurationError, Invocation, PermissionDenied
from nexus_core.errors import RateLimited
from nexus_core.testing import eventually


class CustomAuthProvider(AuthProvider):
    def authenticate(self, credentials: dict) -> dict:
        """Custom authentication logic"""
        # Validate credentials against your auth service
        user = self.validate_user(credentials)

        if user:
            return {
                "user_id": user["id"],
                "username": user["username"],
                "permissions": user["permissions"],
                "tenant_id": user["tenant_id"],
            }
        else:
            raise AuthenticationError("Invalid credentials")

    def authorize(self, user: dict, resource: str, action: str) -> bool:
        """Custom authorization logic"""
        required_permission = f"{resource}:{action}"
        return required_permission in user["permissions"]


USERS = {
    "alice's": {"id": "alice", "username": "Alice", "permissions": ["data:read"], "tenant_id": "acme"},
    "bob's": {"id": 7, "username": "Bob", "permissions": [], "tenant_id": None},
}


class Guide(CustomAuthProvider):
    """The class of the guide, and the service that it asks."""

    def __init__(self):
        self.seen = []
        self.threads = set()

    def validate_user(self, credentials):
        self.seen.append(credentials)
        self.threads.add(threading.current_thread())
        return USERS.get(credentials["token"])


async def test_the_provider_of_the_guide(platform):
    provider = Guide()
    started = await platform(auth_provider=provider, auth_strategy="jwt")
    assert await started.call("whoami", "alice's") == {
        "user": "alice", "tenant": "acme", "permissions": ["data:read"], "scopes": [],
    }  # fmt: skip
    assert await started.call("read", "alice's") == "data"
    assert isinstance(await started.call("write", "alice's"), PermissionDenied)
    assert isinstance(await started.call("read", "bob's"), PermissionDenied)
    assert await started.user("bob's") == "7"
    refused = await started.call("whoami", "mallory's")
    assert type(refused) is AuthenticationError
    assert refused.message == "Invalid credentials"
    assert refused.challenge == 'Bearer realm="nexus", error="invalid_token"'
    assert provider.seen[0] == {"authorization": "Bearer alice's", "scheme": "bearer", "token": "alice's"}
    assert threading.main_thread() not in provider.threads


async def test_a_provider_is_asked_each_time_unless_it_says_otherwise(platform):
    provider = Guide()
    started = await platform(auth_provider=provider)
    for _ in range(3):
        await started.user("alice's")
    assert len(provider.seen) == 3
    provider = Guide()
    provider.cache_seconds = 60
    started = await platform(auth_provider=provider)
    for _ in range(3):
        await started.user("alice's")
        assert await started.user("mallory's") is None
    assert len(provider.seen) == 1 + 3, "who is refused is asked about each time"


TIMES_REMEMBERED = {
    "tomorrow": (time.time() + 86_400, 1),
    "tomorrow in whole seconds": (int(time.time()) + 86_400, 1),
    "just now": (time.time(), 3),
    "beyond any date": (10**400, 1),
    "before any date": (-(10**400), 3),
    "infinite": (float("inf"), 1),
    "not a number": (float("nan"), 3),
    "never": (None, 1),
    "a text": ("soon", 1),
}


@pytest.mark.parametrize("end", TIMES_REMEMBERED)
async def test_what_is_remembered_ends_with_the_credential(platform, end):
    class Short(AuthProvider):
        cache_seconds = 60
        asked = 0

        async def authenticate(self, credentials):
            self.asked += 1
            return {"user_id": "alice", "exp": exp}

    exp, asked = TIMES_REMEMBERED[end]
    provider = Short()
    started = await platform(auth_provider=provider)
    assert [await started.user("x") for _ in range(3)] == ["alice"] * 3
    assert provider.asked == asked


async def test_other_schemes_than_bearer(platform):
    provider = Guide()
    started = await platform(auth_provider=provider)
    await started.user(authorization="Basic YWxpY2U6c2VjcmV0")
    assert provider.seen[-1] == {
        "authorization": "Basic YWxpY2U6c2VjcmV0", "scheme": "basic", "token": "YWxpY2U6c2VjcmV0",
    }  # fmt: skip
    await started.user(headers={b"x-api-key": b"key"})
    assert (provider.seen[-1]["scheme"], provider.seen[-1]["token"]) == ("apikey", "key")


async def test_async_methods(platform):
    class Async(AuthProvider):
        async def authenticate(self, credentials):
            await asyncio.sleep(0)
            return {"user_id": credentials["token"], "permissions": ["data.read"]}

        async def authorize(self, user, resource, action):
            await asyncio.sleep(0)
            return f"{resource}.{action}" in user["permissions"]

    started = await platform(auth_provider=Async())
    assert await started.user("alice") == "alice"
    assert await started.call("read", "alice") == "data"
    assert isinstance(await started.call("write", "alice"), PermissionDenied)


async def test_sync_methods_that_return_something_to_be_awaited(platform):
    class Mixed(AuthProvider):
        def authenticate(self, credentials):
            return self.user(credentials["token"])

        async def user(self, name):
            return {"user_id": name}

        def authorize(self, user, resource, action):
            return self.decided(action == "read")

        async def decided(self, answer):
            return answer

    started = await platform(auth_provider=Mixed())
    assert await started.call("read", "alice") == "data"
    assert isinstance(await started.call("write", "alice"), PermissionDenied)


# What goes wrong


def provider_that(method, act):
    """A provider whose method does this."""
    if method == "authenticate":
        return type("Broken", (AuthProvider,), {"authenticate": lambda self, credentials: act()})()

    class Broken(AuthProvider):
        async def authenticate(self, credentials):
            return {"user_id": "alice", "permissions": ["*"]}

        def authorize(self, user, resource, action):
            return act()

    return Broken()


def raising(exc):
    def act():
        raise exc

    return act


async def never():
    await asyncio.get_running_loop().create_future()


async def stubborn():
    while True:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            if stubborn.may_end:
                raise


stubborn.may_end = False


def generator():
    yield {"user_id": "alice"}


async def failing_later():
    await asyncio.sleep(0)
    raise ValueError("later")


WRONG = {
    "an error": raising(ValueError("the password is hunter2")),
    "a name that there is not": lambda: there_is_no_such_name,  # noqa: F821
    "exit": raising(SystemExit(3)),
    "an interrupt": raising(KeyboardInterrupt()),
    "a cancellation": raising(asyncio.CancelledError()),
    "the end of an iteration": raising(StopIteration()),
    "the end of a generator": raising(GeneratorExit()),
    "endless recursion": lambda: WRONG["endless recursion"](),
    "a late error": failing_later,
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_provider_that_raises_lets_nobody_in(platform, case, caplog):
    started = await platform(auth_provider=provider_that("authenticate", WRONG[case]))
    refused = await started.call("whoami", "x")
    assert type(refused) is AuthenticationError
    assert refused.message == "The credential is not valid."
    assert "hunter2" not in "".join(record.getMessage() for record in caplog.records)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("case", WRONG)
async def test_a_provider_that_raises_permits_nothing(platform, case):
    started = await platform(auth_provider=provider_that("authorize", WRONG[case]))
    assert await started.user("x") == "alice"
    assert type(await started.call("read", "x")) is PermissionDenied


NONSENSE = {
    "nothing": None, "true": True, "a text": "alice", "a list": ["alice"], "an empty dictionary": {},
    "no user": {"user_id": None}, "an empty user": {"user_id": ""}, "a user that is true": {"user_id": True},
    "a user that is a list": {"user_id": ["alice"]}, "a user with a line break": {"user_id": "a\nb"},
    "a huge number": {"user_id": 10**5000}, "a fraction": {"user_id": 1.5}, "bytes": {"user_id": b"alice"},
    "permissions that are true": {"user_id": "alice", "permissions": True},
    "permissions that are a dictionary": {"user_id": "alice", "permissions": {"data.read": True}},
    "permissions that are numbers": {"user_id": "alice", "permissions": [1]},
    "scopes that are a number": {"user_id": "alice", "scopes": 1},
    "a tenant that is a list": {"user_id": "alice", "tenant_id": []},
    "an empty tenant": {"user_id": "alice", "tenant_id": ""},
    "a generator": generator, "a class": dict, "another key": {"id": "alice"},
}  # fmt: skip


@pytest.mark.parametrize("case", NONSENSE)
async def test_a_provider_that_returns_nonsense_lets_nobody_in(platform, case, caplog):
    started = await platform(auth_provider=provider_that("authenticate", lambda: NONSENSE[case]))
    assert type(await started.call("whoami", "x")) is AuthenticationError
    assert "Broken.authenticate: " in caplog.text


NOT_TRUE = [None, 1, "True", "yes", [True], {"allowed": True}, object(), AuthProvider, generator]


@pytest.mark.parametrize("answer", NOT_TRUE)
async def test_only_true_permits(platform, answer, caplog):
    started = await platform(auth_provider=provider_that("authorize", lambda: answer))
    assert type(await started.call("read", "x")) is PermissionDenied
    assert "not True or False" in caplog.text


HANGING = {"a thread": lambda: threading.Event().wait(20), "a coroutine": never, "a stubborn coroutine": stubborn}


@pytest.mark.parametrize("case", HANGING)
@pytest.mark.parametrize("method", ["authenticate", "authorize"])
async def test_a_provider_that_hangs_is_not_waited_for(platform, case, method, caplog):
    stubborn.may_end = False
    started = await platform(auth_provider=provider_that(method, HANGING[case]), auth_timeout=0.2)
    began = time.monotonic()
    answers = await asyncio.gather(*(started.call("read", "x") for _ in range(10)))
    assert {type(each) for each in answers} == {AuthenticationError if method == "authenticate" else PermissionDenied}
    assert time.monotonic() - began < 10
    assert "did not return within 0.2 s" in caplog.text
    stubborn.may_end = True


@pytest.mark.parametrize("method", ["authenticate", "authorize"])
async def test_a_provider_that_hangs_does_not_eat_up_all_threads(platform, method):
    wake, threads = threading.Event(), threading.active_count()
    options = {"auth_timeout": 0.2, "max_concurrent_workflows": 1000}
    started = await platform(auth_provider=provider_that(method, wake.wait), **options)
    refused = Counter()
    async with asyncio.timeout(30):
        while type(await started.call("read", "x")) is not BackendUnavailable:
            answers = await asyncio.gather(*(started.call("read", "x") for _ in range(150)))
            refused.update(type(each) for each in answers)
    assert refused[AuthenticationError if method == "authenticate" else PermissionDenied] >= 50
    assert refused[BackendUnavailable]
    assert threading.active_count() - threads <= 200
    wake.set()
    async with asyncio.timeout(10):
        while isinstance(await started.call("read", "x"), BackendUnavailable):
            await asyncio.sleep(0.01)


async def test_a_slow_provider_does_not_hold_up_the_event_loop(platform):
    asked, answers = threading.Event(), threading.Event()

    class Slow(AuthProvider):
        def authenticate(self, credentials):
            asked.set()
            return {"user_id": "alice" if answers.wait(9) else "nobody: the event loop was held up"}

    started = await platform(auth_provider=Slow())
    call = asyncio.create_task(started.user("x"))
    await eventually(asked.is_set)
    answers.set()
    assert await call == "alice"


async def test_an_error_of_its_own_reaches_the_caller(platform):
    started = await platform(auth_provider=provider_that("authenticate", raising(RateLimited("Not so fast."))))
    assert type(await started.call("whoami", "x")) is RateLimited
    own = AuthenticationError("Ask for a ticket.", challenge='Negotiate realm="x"')
    started = await platform(auth_provider=provider_that("authenticate", raising(own)))
    assert (await started.call("whoami", "x")).challenge == 'Negotiate realm="x"'


@pytest.mark.parametrize("seconds", ["60", -1, float("nan"), None, True])
async def test_seconds_that_are_none(platform, seconds):
    provider = Guide()
    provider.cache_seconds = seconds
    with pytest.raises(ConfigurationError, match=r"auth_provider: Guide\.cache_seconds"):
        await platform(auth_provider=provider)


# One method only, or an object of another class


async def test_a_provider_that_only_decides(platform):
    class OwnRules(AuthProvider):
        def authorize(self, user, resource, action):
            self.user = user
            return user["user_id"] == "alice" and (resource, action) == ("data", "read")

    provider = OwnRules()
    started = await platform(auth_provider=provider, jwt_secret=SECRET)
    assert await started.call("read", secret_token(permissions=[])) == "data"
    assert isinstance(await started.call("read", secret_token(sub="bob", permissions=["*"])), PermissionDenied)
    assert provider.user["tenant_id"] == "acme"
    assert provider.user["iat"]


async def test_a_provider_that_only_authenticates_gets_the_built_in_rule(platform):
    class OwnUsers(AuthProvider):
        def authenticate(self, credentials):
            return {"user_id": "alice", "permissions": "data.* other"}

    started = await platform(auth_provider=OwnUsers())
    assert await started.call("read", "x") == "data"


async def test_an_object_of_another_class(platform):
    class Duck:
        def authenticate(self, credentials):
            return {"user_id": "donald"}

    assert await (await platform(auth_provider=Duck())).user("x") == "donald"


async def test_claims_do_not_pass_for_what_is_known(platform):
    """A token's own claims must not stand in the place of the permissions that were read from it."""

    class OwnRules(AuthProvider):
        def authorize(self, user, resource, action):
            return f"{resource}.{action}" in user["permissions"] and user["user_id"] == "alice"

    started = await platform(auth_provider=OwnRules(), jwt_secret=SECRET, jwt_permissions_claim="rights")
    token = secret_token(permissions=["data.read"], rights=[], user_id="root")
    assert isinstance(await started.call("read", token), PermissionDenied)
    assert await started.call("read", secret_token(rights=["data.read"], user_id="root")) == "data"


async def test_api_keys_beside_a_provider(platform, tmp_path):
    from nexus_auth.methods.api_keys import new_key
    from nexus_auth.methods.key_file import KeyFile

    file = KeyFile(tmp_path / "keys.json")
    token, key = new_key("robot", ["data.read"])
    file.add(key)
    started = await platform(auth_provider=Guide(), auth_providers=["jwt", "api_key"], api_key_file=file.path)
    assert await started.user(token) == "robot"
    assert await started.user("alice's") == "alice"


# Tokens


async def test_a_provider_for_tokens(platform):
    started = await platform(auth_provider=JWTAuthProvider(secret=SECRET, audience=[AUDIENCE], leeway=5))
    assert await started.user(secret_token(aud=AUDIENCE)) == "alice"
    assert await started.user(secret_token(aud="x")) is None
    assert await started.user(secret_token(aud=AUDIENCE, exp=int(time.time()) - 10)) is None


class Directory(JWTAuthProvider):
    """What tokens say, and what a directory knows beside."""

    def authenticate(self, credentials):
        user = super().authenticate(credentials)
        if user["user_id"] == "mallory":
            raise AuthenticationError("Locked out.")
        return {**user, "permissions": ["data.write"]}


class AsyncDirectory(JWTAuthProvider):
    async def authenticate(self, credentials):
        user = await super().authenticate(credentials)
        if user["user_id"] == "mallory":
            raise AuthenticationError("Locked out.")
        return {**user, "permissions": ["data.write"]}


class Looping(JWTAuthProvider):
    """It runs an event loop of its own."""

    def authenticate(self, credentials):
        async def user():
            return {**(await super(Looping, self).authenticate(credentials)), "permissions": ["data.write"]}

        user = asyncio.run(user())
        if user["user_id"] == "mallory":
            raise AuthenticationError("Locked out.")
        return user


@pytest.mark.parametrize("whose", ["its own", "the options'", "the issuer's"])
@pytest.mark.parametrize("kind", [Directory, AsyncDirectory, Looping])
async def test_a_provider_that_adds_to_what_tokens_say(platform, issuer, kind, whose):
    token, options, arguments = secret_token, {}, {}
    if whose == "its own":
        arguments = {"secret": SECRET}
    elif whose == "the options'":
        options = {"jwt_secret": SECRET}
    else:
        token, options = issuer.token, {"auth_service_url": issuer.url, "jwt_audience": AUDIENCE}
    started = await platform(auth_provider=kind(**arguments), **options)
    assert await started.call("write", token()) == "written"
    assert isinstance(await started.call("read", token()), PermissionDenied)
    assert (await started.call("whoami", token(sub="mallory"))).message == "Locked out."
    assert await started.user("x") is None
    assert await started.user("a.b.c") is None
    assert await started.user(token(exp=1)) is None


async def test_a_provider_whose_issuer_is_away(platform, issuer):
    issuer.close()
    for kind in (Directory, AsyncDirectory):
        started = await platform(auth_provider=kind(), auth_service_url=issuer.url, jwt_audience=AUDIENCE)
        assert type(await started.call("whoami", issuer.token())) is BackendUnavailable


async def test_a_provider_for_tokens_that_only_decides(platform):
    class OnlyReading(JWTAuthProvider):
        def authorize(self, user, resource, action):
            return action == "read"

    for arguments, options in ({}, {"jwt_secret": SECRET}), ({"secret": SECRET}, {}):
        started = await platform(auth_provider=OnlyReading(**arguments), **options)
        assert await started.call("read", secret_token(permissions=[])) == "data"
        assert isinstance(await started.call("write", secret_token(permissions=["*"])), PermissionDenied)


def test_a_provider_for_tokens_without_a_platform():
    credentials = {"authorization": f"Bearer {secret_token()}"}
    user = JWTAuthProvider(secret=SECRET).authenticate(credentials)
    assert (user["user_id"], user["permissions"]) == ("alice", ["data.read"])
    with pytest.raises(RuntimeError, match="before the platform is started"):
        JWTAuthProvider().authenticate(credentials)
    with pytest.raises(AuthenticationError):
        JWTAuthProvider(secret=SECRET).authenticate({"authorization": "Bearer x"})


def test_a_provider_with_arguments_that_do_not_fit():
    with pytest.raises(TypeError, match="no argument 'secrets'"):
        JWTAuthProvider(secrets=SECRET)
    with pytest.raises(TypeError, match="needs secret or public_key"):
        JWTAuthProvider(audience="x")
    with pytest.raises(ConfigurationError, match="too short"):
        JWTAuthProvider(secret="short")
    for empty in ({"secret": ""}, {"secret": "  "}, {"public_key": ""}, {"secret": None}):
        with pytest.raises(ConfigurationError, match="secret or public_key is empty"):
            JWTAuthProvider(**empty)
    with pytest.raises(ConfigurationError, match=r"JWTAuthProvider: leeway: .*600"):
        JWTAuthProvider(secret=SECRET, leeway=7200)


async def test_two_platforms_have_each_their_own(platform):
    one = await platform(auth_provider=Guide())
    two = await platform(jwt_secret=SECRET)
    assert await one.user("alice's") == "alice"
    assert await two.user("alice's") is None
    assert await two.user(secret_token()) == "alice"
    assert await one.user(secret_token()) is None


async def test_a_provider_that_calls_a_workflow(platform):
    """It runs inside the platform that asks it: with a principal of its own there is no circle."""

    class Calling(AuthProvider):
        async def authenticate(self, credentials):
            from nexus_core import Principal

            call = Invocation("directory", {"name": credentials["token"]}, principal=Principal("the platform"))
            return (await self.nexus.invoke(call)).value

    provider = Calling()
    started = await platform(auth_provider=provider)
    provider.nexus = started.nexus

    @started.nexus.workflow
    async def directory(name: str) -> dict:
        return {"user_id": name.upper()}

    assert await started.user("alice") == "ALICE"
