"""``nexus keys``. The command line brings typer: nothing else may import this module."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from nexus_auth.commands.output import checked, output_of
from nexus_auth.methods.api_keys import ApiKey, key_id_of, new_key
from nexus_auth.methods.key_file import KeyFile
from nexus_auth.option_checks import strategies
from nexus_auth.values import permission_list
from nexus_core import Command
from nexus_core.errors import ConfigurationError, NotFound, ValidationError

if TYPE_CHECKING:
    from nexus_auth.settings import AuthSettings

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_SECONDS = 100 * 365 * UNITS["d"]


def key_commands(settings: AuthSettings) -> Command:
    """Return the command group ``keys``."""
    keys, actions = typer.Typer(no_args_is_help=True), KeyCommands(settings)
    keys.command("create")(actions.create)
    keys.command("list")(actions.list)
    keys.command("revoke")(actions.revoke)
    return Command("keys", keys, "Create, list and revoke API keys.")


_User = Annotated[str, typer.Option("--user", metavar="ID", help="User id of the owner: a person or a program.")]
_Tenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Tenant of the owner.")]
_Permissions = Annotated[
    list[str] | None, typer.Option("--permission", metavar="PERMISSION", help="Permission of the key; may be repeated.")
]
_Expires = Annotated[str, typer.Option("--expires", metavar="TIME", help="Lifetime, such as 90d, 12h, 30m or 45s.")]
_Name = Annotated[str, typer.Option("--name", metavar="TEXT", help="Description of the key.")]


class KeyCommands:
    """Create, list and revoke API keys in the file ``api_key_file``. Servers see changes within a second."""

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings

    def create(
        self, context: typer.Context, user: _User, tenant: _Tenant = "", permission: _Permissions = None,
        expires: _Expires = "", name: _Name = "",
    ) -> None:  # fmt: skip
        """Create an API key and print it. It is shown only once; the file contains only its hash."""
        permissions, seconds = checked("--permission", permission_list, permission or []), _seconds(expires)
        try:
            token, key = new_key(user, permissions, tenant=tenant or None, name=name, seconds=seconds)
        except TypeError as exc:
            raise ValidationError(f"--user, --tenant or --name: {exc}.") from None
        self._file().add(key)
        output = output_of(context)
        if output.pretty:
            output.table(["", ""], [[name, _shown(name, value)] for name, value in _public(key).items()])
            output.line(f"\n{token}")
            output.note("Store it now: it is not shown again.")
        else:
            output.json(msgspec.json.encode({"key": token, **_public(key)}))
        if not self._settings.enable_auth or "api_key" not in strategies(self._settings):
            output.note("API keys are not accepted with these options: see enable_auth and auth_providers.")

    def list(self, context: typer.Context) -> None:
        """List API keys, without their secrets."""
        found = [_public(key) for key in self._file().read()]
        output = output_of(context)
        if not output.pretty:
            output.json(msgspec.json.encode({"keys": found}))
        elif found:
            names = ("id", "user", "tenant", "status", "name", "permissions", "expires_at")
            output.table([name.upper() for name in names], [[_shown(n, key[n]) for n in names] for key in found])
        else:
            output.line("There are no API keys.")

    def revoke(
        self,
        context: typer.Context,
        key: Annotated[str, typer.Argument(metavar="ID", help="The key or its id.")],
    ) -> None:
        """Revoke an API key permanently."""
        revoked = self._file().revoke(key_id_of(key))
        if revoked is None:
            raise NotFound("There is no API key with this id.")
        output = output_of(context)
        if output.pretty:
            output.line(f"The key {revoked.id} of {revoked.user} is revoked.")
        else:
            output.json(msgspec.json.encode(_public(revoked)))

    def _file(self) -> KeyFile:
        if self._settings.api_key_file is None:
            raise ConfigurationError("api_key_file (NEXUS_API_KEY_FILE) is not set. Set it to the file for API keys.")
        return KeyFile(self._settings.api_key_file, administers=True)


def _public(key: ApiKey) -> dict[str, Any]:
    """Return a key without its hash."""
    members = key.to_dict()
    del members["hash"]
    return {"id": members.pop("id"), "status": key.status(time.time()), **members}


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_at"):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return ", ".join(value) if isinstance(value, list) else str(value)


def _seconds(text: str) -> float | None:
    """Return a time such as ``90d`` in seconds; None for an empty one."""
    if not text:
        return None
    found = re.fullmatch(r"([0-9]{1,10})([smhd])", text)
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise ValidationError("--expires must be a number with d, h, m or s, such as 90d, and at most 100 years.")
    return float(seconds)
