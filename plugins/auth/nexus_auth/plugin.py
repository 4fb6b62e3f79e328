"""Hook implementations of the plugin ``auth``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import hookimpl

if TYPE_CHECKING:
    from nexus_auth.gate import Gate
    from nexus_core import Command, Interceptor, Nexus, Route
    from nexus_core.pipeline.authorization import Authorizer
    from nexus_core.server.channel import Middleware
    from nexus_core.types.health import HealthCheck


@hookimpl
def nexus_register_settings() -> type:
    """Give the options."""
    from nexus_auth.settings import AuthSettings

    return AuthSettings


@hookimpl
async def nexus_startup(nexus: Nexus) -> None:
    """Put together what the options ask for. What is missing stops the start."""
    if (gate := _gate(nexus)) is not None:
        await gate.open(nexus)


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """Close every connection."""
    if (gate := _gate(nexus)) is not None:
        await gate.close()


@hookimpl
def nexus_register_interceptors(nexus: Nexus) -> list[Interceptor]:
    """Give the stage that asks callers who they are, where that is switched on."""
    gate = _gate(nexus)
    return [gate.stage] if gate is not None else []


@hookimpl
def nexus_register_authorizers(nexus: Nexus) -> list[Authorizer]:
    """Give who decides what they may do."""
    gate = _gate(nexus)
    return [gate.authorizer] if gate is not None and gate.authorizer is not None else []


@hookimpl
def nexus_register_routes(nexus: Nexus) -> list[Route]:
    """Give what clients read to find out who issues tokens, where somebody does."""
    gate = _gate(nexus)
    return gate.routes(nexus) if gate is not None else []


@hookimpl
def nexus_register_middleware(nexus: Nexus) -> list[Middleware]:
    """Give what protects browsers."""
    gate = _gate(nexus)
    return gate.middleware(nexus) if gate is not None else []


@hookimpl
def nexus_register_health_checks(nexus: Nexus) -> list[HealthCheck]:
    """Give whether the issuer's keys can be had, where it is asked for them."""
    gate = _gate(nexus)
    return gate.health_checks() if gate is not None else []


@hookimpl
def nexus_register_services(nexus: Nexus) -> dict[str, object]:
    """Give what applications ask about callers of their own."""
    if _gate(nexus) is None:
        return {}
    from nexus_auth.manager import AuthManager

    return {"auth_manager": AuthManager(nexus)}


@hookimpl
def nexus_register_commands(nexus: Nexus) -> list[Command]:
    """Give ``nexus keys``, ``nexus why``, ``nexus login`` and ``nexus logout``."""
    from nexus_auth.commands import commands
    from nexus_auth.login_commands import login_commands
    from nexus_auth.settings import AuthSettings

    return [*commands(nexus), *login_commands(nexus.settings(AuthSettings))]


@hookimpl
def nexus_renew_login(login: dict[str, Any]) -> dict[str, Any] | None:
    """Renew what ``nexus login`` has put there."""
    from nexus_auth.login import renewed
    from nexus_core.concurrency import process

    return process.run(renewed(login))


def _gate(nexus: Nexus) -> Gate | None:
    from nexus_auth.settings import AuthSettings

    settings = nexus.settings(AuthSettings)
    return settings.gate if settings.enable_auth else None
