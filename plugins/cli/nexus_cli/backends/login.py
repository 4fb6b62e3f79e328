"""The token of the user's login to a server."""

from __future__ import annotations

from typing import Any

from nexus_toolkit.login_file import Logins, has_expired

from nexus_core.errors import AuthenticationError, NexusError


def stored_token(url: str, *, renew: bool = True) -> str | None:
    """Return the token of the login to a server, renewed where it has expired; None without a login.

    Raises:
        AuthenticationError: It has expired and was not renewed.
        ConfigurationError: The file of logins can't be used.
        NexusError: The identity provider is unavailable.
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
    """Return a login renewed by a plugin; unchanged if no plugin can, or another process has renewed it meanwhile.

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
            raise  # the plugin recognised its login: the caller needs the reason
        except Exception as exc:
            plugins.fail(name, f"nexus_renew_login failed: {type(exc).__name__}", exc)
        else:
            if renewed is not None:
                return renewed
    return login
