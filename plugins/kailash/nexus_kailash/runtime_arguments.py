"""`with_runtime`: a Kailash workflow and arguments of the runtime that runs it. Imports nothing of Kailash."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nexus_core.errors import ConfigurationError

ConnectionValidation = Literal["off", "warn", "strict"]


@dataclass(frozen=True, slots=True)
class RuntimeArguments:
    """What Kailash's runtimes take and Nexus hands on.

    Attributes:
        connection_validation: What happens when a value on a connection does not fit.
        secret_provider: Provides the secrets that nodes require (``get_secret_requirements``).
        resource_registry: Provides what ``get_resource`` returns in async code.
    """

    connection_validation: ConnectionValidation = "warn"
    secret_provider: Any = None
    resource_registry: Any = None


@dataclass(frozen=True, slots=True)
class WithRuntime:
    """A workflow and the arguments of its runtime. Made by `with_runtime`."""

    target: Any
    arguments: RuntimeArguments = field(default_factory=RuntimeArguments)


def with_runtime(
    target: Any,
    *,
    connection_validation: ConnectionValidation = "warn",
    secret_provider: Any = None,
    resource_registry: Any = None,
) -> WithRuntime:
    """Return a workflow to register whose runtime has arguments of the author's.

    Args:
        target: A ``WorkflowBuilder`` or a built ``Workflow``.
        connection_validation: "strict" fails the run when a value on a connection breaks a contract
            (``add_typed_connection``) or does not fit its node; "warn" logs broken contracts; "off" does neither.
        secret_provider: Kailash's ``SecretProvider``. In each run it is asked for the secrets that nodes require;
            callers can't set these parameters.
        resource_registry: Kailash's ``ResourceRegistry``, for ``get_resource``. It is cleaned up when Nexus stops.

    Raises:
        ConfigurationError: ``connection_validation`` is not one of the three.

    Example:
        >>> from nexus_kailash import with_runtime
        >>> nexus.register("report", with_runtime(builder, connection_validation="strict"))  # doctest: +SKIP
    """
    if connection_validation not in get_args(ConnectionValidation):
        raise ConfigurationError(
            f"connection_validation must be one of {', '.join(get_args(ConnectionValidation))}, "
            f"not {connection_validation!r}."
        )
    return WithRuntime(target, RuntimeArguments(connection_validation, secret_provider, resource_registry))
