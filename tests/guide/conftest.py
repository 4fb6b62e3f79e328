"""What the guide's platforms need around them: servers on this machine, and callers on each channel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from guide_callers import Client
from joserfc.jwk import RSAKey
from token_issuer import AUDIENCE, Issuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith(("NEXUS_", "OTEL_", "REDIS_", "POSTGRES_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def signing_key() -> Any:
    return RSAKey.generate_key(2048, {"kid": "one"})


@pytest.fixture
def issuer(signing_key: Any) -> Iterator[Issuer]:
    """Who gives tokens: the guide's auth service."""
    made = Issuer([signing_key])
    yield made
    made.close()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets options in the environment: what the guide leaves to whoever runs its code."""

    def set_options(**options: object) -> None:
        for name, value in options.items():
            monkeypatch.setenv(f"NEXUS_{name.upper()}", str(value))

    return set_options


@pytest.fixture
def with_issuer(environment: Callable[..., None], issuer: Issuer) -> Issuer:
    """The issuer, known to the platforms of the test."""
    environment(auth_service_url=issuer.url, auth_allow_http="true", jwt_audience=AUDIENCE)
    return issuer


@pytest.fixture
def with_redis(environment: Callable[..., None], redis_server: Any) -> Any:
    """Redis, known to the platforms of the test."""
    environment(redis_url=redis_server.url, redis_timeout=10)
    return redis_server


@pytest.fixture
async def with_postgres(postgres_server: Any) -> AsyncIterator[Any]:
    """PostgreSQL with the guide's user, password and database."""
    import asyncpg

    connection = await asyncpg.connect(postgres_server.url)
    try:
        await connection.execute("CREATE ROLE \"user\" LOGIN PASSWORD 'pass'")
        await connection.execute('CREATE DATABASE nexus OWNER "user"')
        yield postgres_server
        await connection.execute("DROP DATABASE nexus WITH (FORCE)")
        await connection.execute('DROP ROLE "user"')
    finally:
        await connection.close()


@pytest.fixture
def caller() -> type[Client]:
    return Client
