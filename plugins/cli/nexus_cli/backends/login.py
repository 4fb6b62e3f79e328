"""The token of somebody who has logged in to the server that is connected to."""

from __future__ import annotations

from typing import Any

from nexus_toolkit.login_file import Logins, has_expired

from nexus_core.errors import AuthenticationError, NexusError


def stored_token(url: str, *, renew: bool = True) -> str | None:
    """Return the token of the login to a server, renewed where it has expired; None without a login.

    Raises:
        AuthenticationError: It has expired, and no plugin could renew it, or none was to.
        ConfigurationError: The file of logins can't be used.
        NexusError: Who could renew it does not answer.
    """
    logins = Logins()
    login = logins.get(url)
    if login is not None and has_expired(login):
        if renew:
            login = logins.change(url, _renewed)
        if login is None or has_expired(login):
            raise AuthenticationError(f"The login to {url} has expired: nexus --connect {url} login")
    return None if login is None else login["access_token"]


def _renewed(login: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a login renewed, or as it is: another command line has renewed it meanwhile, or no plugin can.

    Plugins are loaded for nothing else, so only an expired login takes that time.
    """
    if login is None or not has_expired(login):
        return login
    from nexus_core.app.nexus import Nexus

    plugins = Nexus().plugins
    for name, renew in plugins.implementations("nexus_renew_login", login=dict(login)):
        try:
            renewed: dict[str, Any] | None = renew()
        except NexusError:
            raise  # it is its login, and there is something to tell
        except Exception as exc:
            plugins.fail(name, f"nexus_renew_login failed: {type(exc).__name__}", exc)
        else:
            if renewed is not None:
                return renewed
    return login
