"""``nexus keys`` and ``nexus why``. The command line brings typer: nothing else may import this module."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec
import typer

from nexus_auth.api_keys import ApiKey, key_id_of, new_key
from nexus_auth.key_file import KeyFile
from nexus_auth.plan import strategies
from nexus_auth.settings import AuthSettings
from nexus_auth.texts import id_of, permissions_of
from nexus_auth.why import explain
from nexus_core import Command
from nexus_core.errors import ConfigurationError, NotFound, PermissionDenied, ValidationError
from nexus_core.types.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nexus_core.app.nexus import Nexus

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_SECONDS = 100 * 365 * UNITS["d"]


class Output(Protocol):
    """What the command line writes with: tables for people, JSON for programs."""

    pretty: bool

    def json(self, text: bytes) -> None:
        """Write a JSON text."""

    def line(self, text: str) -> None:
        """Write a line."""

    def note(self, text: str) -> None:
        """Write a remark for people."""

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table."""


def commands(nexus: Nexus) -> list[Command]:
    """Return the commands for a platform, whether it asks its callers or not."""
    keys, actions = typer.Typer(no_args_is_help=True), KeyCommands(nexus.settings(AuthSettings))
    keys.command("create")(actions.create)
    keys.command("list")(actions.list)
    keys.command("revoke")(actions.revoke)
    return [
        Command("keys", keys, "Create, list and revoke API keys."),
        Command("why", WhyCommand(nexus).why, "Explain whether a caller may run a workflow, and by which rule."),
    ]


_User = Annotated[str, typer.Option("--user", help="Whose it is: the id of a user, or of a program.")]
_Tenant = Annotated[str, typer.Option("--tenant", help="The tenant that the user belongs to.")]
_Permissions = Annotated[list[str] | None, typer.Option("--permission", help="What it may do; may be repeated.")]
_Expires = Annotated[str, typer.Option("--expires", metavar="TIME", help="When it ends: in 90d, 12h, 30m or 45s.")]
_Name = Annotated[str, typer.Option("--name", help="What it is for.")]


class KeyCommands:
    """Create, list and revoke API keys. They are in the file ``api_key_file``; servers see changes within a second."""

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings

    def create(
        self, context: typer.Context, user: _User, tenant: _Tenant = "", permission: _Permissions = None,
        expires: _Expires = "", name: _Name = "",
    ) -> None:  # fmt: skip
        """Create an API key and print it. It is shown this once: only its hash is kept."""
        permissions, seconds = _checked("--permission", permissions_of, permission or []), _seconds(expires)
        try:
            token, key = new_key(user, permissions, tenant=tenant or None, name=name, seconds=seconds)
        except TypeError as exc:
            raise ValidationError(f"--user, --tenant or --name: {exc}.") from None
        self._file().add(key)
        output = _output(context)
        if output.pretty:
            output.table(["", ""], [[name, _shown(name, value)] for name, value in _public(key).items()])
            output.line(f"\n{token}")
            output.note("Keep it: it is not shown again.")
        else:
            output.json(msgspec.json.encode({"key": token, **_public(key)}))
        if not self._settings.enable_auth or "api_key" not in strategies(self._settings):
            output.note("The options do not ask callers for API keys: see enable_auth and auth_providers.")

    def list(self, context: typer.Context) -> None:
        """List API keys, without their secrets."""
        found = [_public(key) for key in self._file().read()]
        output = _output(context)
        if not output.pretty:
            output.json(msgspec.json.encode({"keys": found}))
        elif found:
            names = ("id", "user", "tenant", "status", "name", "permissions", "expires_at")
            output.table([name.upper() for name in names], [[_shown(n, key[n]) for n in names] for key in found])
        else:
            output.line("There are no API keys.")

    def revoke(
        self, context: typer.Context, key: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the key.")]
    ) -> None:
        """Revoke an API key, for good."""
        revoked = self._file().revoke(key_id_of(key))
        if revoked is None:
            raise NotFound("There is no API key of that id.")
        output = _output(context)
        if output.pretty:
            output.line(f"The key {revoked.id} of {revoked.user} is revoked.")
        else:
            output.json(msgspec.json.encode(_public(revoked)))

    def _file(self) -> KeyFile:
        if self._settings.api_key_file is None:
            raise ConfigurationError("api_key_file (NEXUS_API_KEY_FILE): set it to the file to keep API keys in.")
        return KeyFile(self._settings.api_key_file, administers=True)


class WhyCommand:
    """``nexus why``, for an application in this process."""

    def __init__(self, nexus: Nexus) -> None:
        self._nexus = nexus

    async def why(
        self,
        context: typer.Context,
        principal: Annotated[str, typer.Argument(help="A token or an API key ('-' for --token); or a user's id.")],
        workflow: Annotated[str, typer.Argument(help="The workflow.")],
        permission: Annotated[
            list[str] | None, typer.Option("--permission", help="A permission of the user; may be repeated.")
        ] = None,
        scope: Annotated[list[str] | None, typer.Option("--scope", help="A scope; may be repeated.")] = None,
        tenant: Annotated[str, typer.Option("--tenant", help="The user's tenant.")] = "",
    ) -> int:
        """Explain whether a caller may run a workflow: which rule decides, and what grants each permission.

        With --permission, --scope or --tenant, PRINCIPAL is the id of a user who has those; otherwise a credential.
        """
        if principal == "-":
            principal = context.obj.options.token or ""
        asked: str | Principal = principal
        if permission is not None or scope is not None or tenant:
            has = frozenset(_checked("--permission", permissions_of, permission or []))
            scopes = frozenset(_checked("--scope", permissions_of, scope or []))
            user, of = _checked("PRINCIPAL", id_of, principal), _checked("--tenant", id_of, tenant) if tenant else None
            asked = Principal(user, has, scopes, of)
        async with self._nexus:
            explanation = await explain(self._nexus, asked, workflow)
        output = _output(context)
        if output.pretty:
            for line in explanation.lines():
                output.line(line)
        else:
            output.json(msgspec.json.encode(explanation.to_dict()))
        if isinstance(asked, str) and explanation.principal is None and not explanation.allowed:
            output.note("If this is a user's id, say what the user has: --permission, --scope, --tenant.")
        return 0 if explanation.allowed else PermissionDenied.exit_code


def _output(context: typer.Context) -> Output:
    return context.obj.output  # type: ignore[no-any-return]


def _public(key: ApiKey) -> dict[str, Any]:
    """Return what may be shown of a key."""
    members = key.to_dict()
    del members["hash"]
    return {"id": members.pop("id"), "status": key.status(time.time()), **members}


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_at"):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return ", ".join(value) if isinstance(value, list) else str(value)


def _checked(option: str, check: Any, value: Any) -> Any:
    try:
        return check(value)
    except TypeError as exc:
        raise ValidationError(f"{option}: {exc}.") from None


def _seconds(text: str) -> float | None:
    """Return a time such as ``90d`` in seconds; None for none."""
    if not text:
        return None
    found = re.fullmatch(r"([0-9]{1,10})([smhd])", text)
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise ValidationError("--expires: it must be a number with d, h, m or s, such as 90d, and at most 100 years.")
    return float(seconds)
