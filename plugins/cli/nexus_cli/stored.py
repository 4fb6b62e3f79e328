"""The token of somebody who has logged in to the server that is connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.errors import AuthenticationError
from nexus_core.logins import Logins, has_expired

if TYPE_CHECKING:
    from collections.abc import Mapping


def stored_token(url: str) -> str | None:
    """Return the token of the login to a server, renewed where it has expired; None without a login.

    Raises:
        AuthenticationError: It has expired, and no plugin could renew it.
        ConfigurationError: The file of logins can't be used.
    """
    logins = Logins()
    login = logins.get(url)
    if login is not None and has_expired(login):
        login = _renewed(login)
        if login is None:
            raise AuthenticationError(f"The login to {url} has expired: nexus --connect {url} login")
        logins.set(url, login)
    return None if login is None else login["access_token"]


def _renewed(login: Mapping[str, Any]) -> dict[str, Any] | None:
    """Ask the installed plugins. They are loaded for nothing else, so only an expired login takes that time."""
    from nexus_core.plugins.manager import PluginManager
    from nexus_core.threads import DaemonThreads

    manager = PluginManager(DaemonThreads("nexus-login"))
    manager.load_installed()
    for name, renew in manager.implementations("nexus_renew_login"):
        try:
            renewed: dict[str, Any] | None = renew(login=dict(login))
        except Exception as exc:
            manager.fail(name, f"nexus_renew_login failed: {type(exc).__name__}", exc)
            continue
        if renewed is not None:
            return renewed
    return None
