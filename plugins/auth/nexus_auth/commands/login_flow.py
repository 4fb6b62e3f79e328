"""The login to a server from the command line, its renewal, and the logout."""

from __future__ import annotations

import os
import secrets
import webbrowser
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from nexus_auth.challenge import METADATA_PATH, RESOURCE_PATHS
from nexus_auth.commands.login_receiver import LoginReceiver
from nexus_auth.commands.trusted_issuers import IssuerTrust
from nexus_auth.oauth.client import OAuthClient, Token, issuer_of
from nexus_auth.oauth.issuer import Issuer
from nexus_auth.oauth.json_client import JsonClient, check_transport
from nexus_auth.rejection import Rejected, Unavailable
from nexus_core.concurrency.threads import DaemonThreads
from nexus_core.errors import AuthenticationError, BackendUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

LOGIN_SECONDS = 300.0
"""Time limit of a login in a browser."""

RESPONSE_SECONDS = 10.0
BY = "nexus-hub-auth"
CREDENTIAL_VARIABLE = "NEXUS_OAUTH2_CLIENT_SECRET"


@dataclass(frozen=True, slots=True)
class Client:
    """The command line as an OAuth2 client.

    Attributes:
        id: OAuth2 client id.
        secret: OAuth2 client secret, or None.
        scopes: The scopes to request.
        allow_http: Whether server and issuer on other machines may be without TLS.
        trust: The issuers that the secret may be sent to.
    """

    id: str
    secret: str | None = None
    scopes: Sequence[str] = ()
    allow_http: bool = False
    trust: IssuerTrust | None = None


async def log_in_person(server: str, client: Client, show: Callable[[str], None], *, browser: bool) -> dict[str, Any]:
    """Log in in a browser, and return the login.

    Args:
        server: The URL of its command-line port.
        client: The OAuth2 client.
        show: Called with the URL of the login.
        browser: Whether to open it in a browser.

    Raises:
        AuthenticationError: The login failed.
        BackendUnavailable: The server or the issuer is unavailable.
    """
    async with _oauth_client(server, client) as oauth:
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        async with LoginReceiver(state, await oauth.issuer.recent()) as receiver:
            url = await oauth.authorization_url(receiver.redirect_uri, state, verifier)
            show(url)
            if browser:  # some browsers return only when they are closed
                DaemonThreads("nexus-browser").start(partial(webbrowser.open, url))
            try:
                code = await receiver.code(LOGIN_SECONDS)
            except TimeoutError:
                raise AuthenticationError(f"Login timed out after {LOGIN_SECONDS:g} s.") from None
            token = await oauth.redeem(code, receiver.redirect_uri, verifier)
        return _login(token, client, oauth, "authorization_code")


async def log_in_program(server: str, client: Client) -> dict[str, Any]:
    """Log in with the client's own credentials, and return the login. Raises as `log_in_person` does."""
    async with _oauth_client(server, client) as oauth:
        token = await oauth.client_credentials()
        return _login(token, client, oauth, "client_credentials")


async def renewed(login: Mapping[str, Any]) -> dict[str, Any] | None:
    """Renew an expired login; None if it can't be renewed, or is another plugin's."""
    if login.get("by") != BY:
        return None
    grant, secret = login["grant"], _secret_for(login)
    if not (login["refresh_token"] or (grant == "client_credentials" and secret)):
        return None
    web = JsonClient(RESPONSE_SECONDS, logs=False)
    try:
        issuer = Issuer(login["issuer"], web, allow_http=login["allow_http"])
        oauth = OAuthClient(
            issuer, login["client_id"], secret, scopes=login["scopes"], resource=login["resource"],
            seconds=RESPONSE_SECONDS,
        )  # fmt: skip
        refresh = login["refresh_token"]
        token = await (oauth.refresh(refresh) if refresh else oauth.client_credentials())
    except (Rejected, ConfigurationError):
        return None
    except Unavailable as exc:
        raise BackendUnavailable(f"The login can't be renewed: {exc}.") from None
    finally:
        await web.close()
    return {**login, **_members(token)}


async def log_out(login: Mapping[str, Any]) -> bool:
    """Revoke the tokens of a login at the issuer. Returns whether the issuer confirms it."""
    if login.get("by") != BY:
        return False
    web = JsonClient(RESPONSE_SECONDS, logs=False)
    try:
        issuer = Issuer(login["issuer"], web, allow_http=login["allow_http"])
        oauth = OAuthClient(issuer, login["client_id"], _secret_for(login), seconds=RESPONSE_SECONDS)
        return await oauth.revoke(login["refresh_token"] or login["access_token"])
    finally:
        await web.close()


def _login(token: Token, client: Client, oauth: OAuthClient, grant: str) -> dict[str, Any]:
    return _members(token) | {
        "by": BY,
        "grant": grant,
        "issuer": oauth.issuer.url,
        "client_id": client.id,
        "scopes": list(client.scopes),
        "resource": oauth.resource,
        "allow_http": client.allow_http,
        "has_secret": client.secret is not None,
    }


def _secret_for(login: Mapping[str, Any]) -> str | None:
    """Return the client secret if the login used it: it is sent to the same issuer only."""
    return (os.environ.get(CREDENTIAL_VARIABLE) or None) if login.get("has_secret") else None


def _members(token: Token) -> dict[str, Any]:
    return {"access_token": token.access, "expires_at": token.expires_at, "refresh_token": token.refresh}


@asynccontextmanager
async def _oauth_client(server: str, client: Client) -> AsyncIterator[OAuthClient]:
    """Discover the issuer of a server, and yield the client for it. Errors become those of the command line."""
    web = JsonClient(RESPONSE_SECONDS, logs=False)
    try:
        base = base_of(check_transport("--connect", server, allow_http=client.allow_http))
        resource = base + RESOURCE_PATHS["cli"]
        issuer_url = issuer_of(await web.get(base + METADATA_PATH + RESOURCE_PATHS["cli"]), resource)
        if client.secret is not None:  # the server could name any issuer
            (client.trust or IssuerTrust(None, None)).check(server, issuer_url)
        issuer = Issuer(issuer_url, web, allow_http=client.allow_http)
        yield OAuthClient(
            issuer, client.id, client.secret, scopes=client.scopes, resource=resource, seconds=RESPONSE_SECONDS
        )
    except Rejected as exc:
        raise AuthenticationError(f"The login failed: {exc}.") from None
    except Unavailable as exc:
        raise BackendUnavailable(f"The login is unavailable: {exc}.") from None
    finally:
        await web.close()


def base_of(server: str) -> str:
    """Return the platform's URL: that of its command-line port without the port's path."""
    parts = urlsplit(server)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/cli").rstrip("/"), "", ""))
