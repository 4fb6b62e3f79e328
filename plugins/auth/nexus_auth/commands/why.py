"""``nexus why``. The command line brings typer: nothing else may import this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from nexus_auth.commands.explanation import explain
from nexus_auth.commands.output import checked, output_of
from nexus_auth.values import identifier, permission_list
from nexus_core import Command
from nexus_core.errors import PermissionDenied
from nexus_core.types.principal import Principal

if TYPE_CHECKING:
    from nexus_auth.commands.explanation import Verify
    from nexus_core import Platform


def why_command(platform: Platform, verify: Verify | None) -> Command:
    """Return the command ``why``.

    Args:
        platform: The platform; the command starts it.
        verify: Verifies a credential; None where authentication is off.
    """
    summary = "Explain whether a caller may run a workflow, and by which rule."
    return Command("why", WhyCommand(platform, verify).why, summary)


class WhyCommand:
    """``nexus why``, for an application in this process. See `why_command`."""

    def __init__(self, platform: Platform, verify: Verify | None) -> None:
        self._platform = platform
        self._verify = verify

    async def why(
        self,
        context: typer.Context,
        principal: Annotated[str, typer.Argument(help="A token or API key ('-' for --token); or a user id.")],
        workflow: Annotated[str, typer.Argument(help="Name of the workflow.")],
        permission: Annotated[
            list[str] | None,
            typer.Option("--permission", metavar="PERMISSION", help="Permission of the user; may be repeated."),
        ] = None,
        scope: Annotated[
            list[str] | None, typer.Option("--scope", metavar="SCOPE", help="Scope of the user; may be repeated.")
        ] = None,
        tenant: Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Tenant of the user.")] = "",
    ) -> int:
        """Explain whether a caller may run a workflow: which rule decides, and what grants each permission.

        With --permission, --scope or --tenant, PRINCIPAL is the id of a user who has those; otherwise a credential.
        """
        if principal == "-":
            principal = context.obj.options.token or ""
        caller: str | Principal = principal
        if permission is not None or scope is not None or tenant:
            caller = Principal(
                checked("PRINCIPAL", identifier, principal),
                frozenset(checked("--permission", permission_list, permission or [])),
                frozenset(checked("--scope", permission_list, scope or [])),
                checked("--tenant", identifier, tenant) if tenant else None,
            )
        async with self._platform:
            explanation = await explain(self._platform, self._verify, caller, workflow)
        output = output_of(context)
        if output.pretty:
            for line in explanation.lines():
                output.line(line)
        else:
            output.json(msgspec.json.encode(explanation.to_dict()))
        if isinstance(caller, str) and explanation.principal is None and not explanation.allowed:
            output.note("For a user id, give what the user has: --permission, --scope, --tenant.")
        return 0 if explanation.allowed else PermissionDenied.exit_code
