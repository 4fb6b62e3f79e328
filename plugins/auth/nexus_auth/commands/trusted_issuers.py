"""`IssuerTrust`: the issuers that the client secret may be sent to. A server names its issuer, and could name any."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from nexus_toolkit.login_file import FOLDER_MODE, default_path, server_of

from nexus_auth.methods.key_file import write_private
from nexus_core.errors import ConfigurationError
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class IssuerTrust:
    """Issuers that the user has named, or has confirmed for a server.

    Args:
        named: The issuer that the user has named, or None.
        ask: Asks the user a question; None if no user can be asked.
        path: The file with confirmed issuers; None for ``issuers.json`` next to the logins.
    """

    def __init__(self, named: str | None, ask: Callable[[str], bool] | None, path: Path | None = None) -> None:
        self._named = named
        self._ask = ask
        self._path = path or default_path().with_name("issuers.json")

    def check(self, server: str, issuer: str) -> None:
        """Check that the secret may be sent.

        Args:
            server: The server that names the issuer.
            issuer: The issuer.

        Raises:
            ConfigurationError: The user has named another one, or has not confirmed this one.
        """
        if self._named is not None:
            if issuer.rstrip("/") == self._named.rstrip("/"):
                return
            raise ConfigurationError(
                f"{server} names the issuer {printable(issuer, 200)}, and --issuer (auth_service_url) is "
                f"{printable(self._named, 200)}: the client secret is not sent."
            )
        place, confirmed = server_of(server), self._confirmed()
        if issuer in confirmed.get(place, ()):
            return
        if self._ask is None:
            raise ConfigurationError(
                f"The client secret is only sent to an issuer that you name. Set --issuer {printable(issuer, 200)} "
                f"(NEXUS_AUTH_SERVICE_URL), if this is the issuer of {server}."
            )
        if not self._ask(f"{server} names the issuer {printable(issuer, 200)}. Send the client secret there?"):
            raise ConfigurationError("The client secret is not sent.")
        self._keep({**confirmed, place: [*confirmed.get(place, ()), issuer]})

    def _confirmed(self) -> dict[str, list[str]]:
        """Return the confirmed issuers; none if other users can write to the file."""
        try:
            with self._path.open(encoding="utf-8") as file:
                found = os.fstat(file.fileno())
                if found.st_mode & _WRITABLE_BY_OTHERS or found.st_uid != os.geteuid():
                    return {}
                members = json.load(file)
        except (OSError, ValueError, RecursionError):
            return {}
        every = members.items() if isinstance(members, dict) else ()
        return {server: issuers for server, issuers in every if isinstance(issuers, list)}

    def _keep(self, confirmed: dict[str, list[str]]) -> None:
        try:
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            write_private(self._path, json.dumps(confirmed, indent=1) + "\n")
        except OSError as exc:
            name = printable(str(self._path), 300)
            raise ConfigurationError(f"{name} can't be written: {exc.strerror}.") from None
