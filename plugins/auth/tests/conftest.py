"""Platforms that ask callers who they are, and an issuer of tokens beside them."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from nexus_auth.plugin import AuthPlugin
from token_issuer import AUDIENCE, Issuer

from nexus_core import AuthenticationError, Context, Invocation, Nexus, NexusError
from nexus_core.plugins.discovery import discover


def alone(*plugins, beside=(), **options):
    """A platform with this plugin, and those installed ones that are named."""
    if beside:
        others = [record.name for record in discover() if record.name not in ("auth", *beside)]
        return Nexus(plugins=plugins, disabled_plugins=others, **options)
    auth = type("auth", (AuthPlugin,), {})  # named as installed; discovery takes time
    return Nexus(plugins=(auth, *plugins), discover=False, **options)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [each for each in os.environ if each.startswith("NEXUS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(name="alone")
def alone_fixture():
    return alone


@pytest.fixture(scope="session")
def keys():
    """Keys of each kind. Making one takes a while."""
    return {
        "RSA": RSAKey.generate_key(2048, {"kid": "rsa"}),
        "RSA2": RSAKey.generate_key(2048, {"kid": "rsa-2"}),
        "EC": ECKey.generate_key("P-256", {"kid": "ec"}),
        "EC384": ECKey.generate_key("P-384", {"kid": "ec384"}),
        "OKP": OKPKey.generate_key("Ed25519", {"kid": "okp"}),
    }


@pytest.fixture
def issuer(keys):
    issuer = Issuer([keys["RSA"]])
    yield issuer
    issuer.close()


class Platform:
    """A platform with a workflow for everybody, and one that needs a permission."""

    def __init__(self, nexus):
        self.nexus = nexus

        @nexus.workflow
        async def whoami(context: Context) -> dict:
            principal = context.principal
            return {
                "user": principal.user_id,
                "tenant": principal.tenant_id,
                "permissions": sorted(principal.permissions),
                "scopes": sorted(principal.scopes),
            }

        @nexus.workflow(required_permissions=["data.read"])
        async def read() -> str:
            return "data"

        @nexus.workflow(required_permissions=["data.write"])
        async def write() -> str:
            return "written"

    def invocation(self, workflow, token=None, *, authorization=None, **members):
        authorization = f"Bearer {token}" if authorization is None and token is not None else authorization
        credentials = None if authorization is None else {"authorization": authorization}
        return Invocation(workflow, {}, "api", credentials=credentials, **members)

    async def call(self, workflow="whoami", token=None, **members):
        """What becomes of a call: its result, or its error."""
        try:
            return (await self.nexus.invoke(self.invocation(workflow, token, **members))).value
        except NexusError as exc:
            return exc

    async def user(self, token=None, **members):
        """Who a caller is found to be; None for nobody."""
        answer = await self.call("whoami", token, **members)
        if isinstance(answer, AuthenticationError):
            return None
        assert isinstance(answer, dict), answer
        return answer["user"]


@pytest.fixture
async def platform():
    """A function that starts a platform with options."""
    async with AsyncExitStack() as stack:

        async def start(*plugins, **options):
            nexus = alone(*plugins, **{"enable_auth": True, **options})
            platform = Platform(nexus)
            await stack.enter_async_context(nexus)
            return platform

        yield start


@pytest.fixture
async def served():
    """A function that serves a platform on ports; `urls` has the address of each channel."""
    async with AsyncExitStack() as stack:

        async def start(*plugins, channels=("api",), beside=(), **options):
            ports = {f"{name}_port": 0 for name in channels}
            nexus = alone(*plugins, beside=(*channels, *beside, "hypercorn"), enable_auth=True, **ports, **options)
            platform = Platform(nexus)
            bound = await stack.enter_async_context(nexus.serving())
            platform.urls = {name: listener.url for listener in bound for name in listener.channels}
            return platform

        yield start


@pytest.fixture
def trusting(platform, issuer):
    """A function that starts a platform that trusts the issuer."""

    async def start(*plugins, **options):
        defaults = {"auth_service_url": issuer.url, "jwt_audience": AUDIENCE}
        return await platform(*plugins, **{**defaults, **options})

    return start
