"""Who may do what: the `Authorizer` that plugins provide, and the stage that asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nexus_core.errors import PermissionDenied
from nexus_core.pipeline.stage import Call, Stage

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.types.principal import Principal
    from nexus_core.types.result import Result


class Authorizer(Protocol):
    """Decides what a principal may do. Given by ``nexus_register_authorizers``; where several are, all must agree."""

    async def granted(self, principal: Principal | None, permissions: frozenset[str]) -> Collection[str]:
        """Return those of the permissions that the principal has. What it raises grants nothing."""


async def missing_permissions(
    authorizers: Sequence[Authorizer], principal: Principal | None, permissions: frozenset[str]
) -> frozenset[str]:
    """Return those of the permissions that not every authorizer grants."""
    granted = permissions
    for authorizer in authorizers:
        granted &= frozenset(await authorizer.granted(principal, permissions))
    return permissions - granted


class Authorization:
    """Refuses a call when the caller lacks a permission that the workflow requires."""

    stage = Stage.AUTHORIZE

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = authorizers

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        """Pass the invocation on, or refuse it."""
        workflow = invocation.workflow
        if workflow is not None and workflow.required_permissions:
            missing = await missing_permissions(self._authorizers, invocation.principal, workflow.required_permissions)
            if missing:
                raise PermissionDenied(
                    f'The workflow "{workflow.name}" needs the permission {", ".join(sorted(missing))}.',
                    details={"missing_permissions": sorted(missing)},
                )
        return await call_next(invocation)
