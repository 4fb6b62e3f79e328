"""Logging in to a server from a command line, and staying logged in."""

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
from nexus_auth.issuer import Issuer
from nexus_auth.login_receiver import LoginReceiver
from nexus_auth.oauth_client import OAuthClient, Token, issuer_of
from nexus_auth.refusal import Refused, Unavailable
from nexus_auth.trusted_issuers import IssuerTrust
from nexus_auth.web import Web, check_transport
from nexus_core.concurrency.threads import DaemonThreads
from nexus_core.errors import AuthenticationError, BackendUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

LOGIN_SECONDS = 300.0
"""How long a person has for logging in."""

ANSWER_SECONDS = 10.0
BY = "nexus-hub-auth"
CREDENTIAL_VARIABLE = "NEXUS_OAUTH2_CLIENT_SECRET"


@dataclass(frozen=True, slots=True)
class Client:
    """What a command line is to the issuer.

    Attributes:
        id: What it is called there.
        secret: What proves it, where it can keep one.
        scopes: What it asks for.
        allow_http: Whether server and issuer may do without TLS on other machines.
        trust: Which issuers may get the secret.
    """

    id: str
    secret: str | None = None
    scopes: Sequence[str] = ()
    allow_http: bool = False
    trust: IssuerTrust | None = None


async def log_in_person(server: str, client: Client, show: Callable[[str], None], *, browser: bool) -> dict[str, Any]:
    """Let a person log in in a browser, and return the login.

    Args:
        server: The URL of its command-line port.
        client: What the command line is to the issuer.
        show: Called with the address where to log in.
        browser: Whether to open it.

    Raises:
        AuthenticationError: The login has failed.
        BackendUnavailable: Server or issuer do not answer as they must.
    """
    async with _conversation(server, client) as oauth:
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        async with LoginReceiver(state, await oauth.issuer.recent()) as receiver:
            url = await oauth.authorization_url(receiver.redirect_uri, state, verifier)
            show(url)
            if browser:  # some return only when they are closed
                DaemonThreads("nexus-browser").start(partial(webbrowser.open, url))
            try:
                code = await receiver.code(LOGIN_SECONDS)
            except TimeoutError:
                raise AuthenticationError(f"Nobody has logged in within {LOGIN_SECONDS:g} seconds.") from None
            token = await oauth.redeem(code, receiver.redirect_uri, verifier)
        return _login(token, client, oauth, "authorization_code")


async def log_in_program(server: str, client: Client) -> dict[str, Any]:
    """Log in with the client's own credentials, and return the login. Raises as `log_in_person` does."""
    async with _conversation(server, client) as oauth:
        token = await oauth.client_credentials()
        return _login(token, client, oauth, "client_credentials")


async def renewed(login: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a login in place of one that has expired; None where that can't be had, or is another plugin's."""
    if login.get("by") != BY:
        return None
    grant, secret = login["grant"], _secret_for(login)
    if not (login["refresh_token"] or (grant == "client_credentials" and secret)):
        return None
    web = Web(ANSWER_SECONDS, complains=False)
    try:
        issuer = Issuer(login["issuer"], web, allow_http=login["allow_http"])
        oauth = OAuthClient(
            issuer, login["client_id"], secret, scopes=login["scopes"], resource=login["resource"],
            seconds=ANSWER_SECONDS,
        )  # fmt: skip
        refresh = login["refresh_token"]
        token = await (oauth.refresh(refresh) if refresh else oauth.client_credentials())
    except (Refused, ConfigurationError):
        return None
    except Unavailable as exc:
        raise BackendUnavailable(f"The login can't be renewed: {exc}.") from None
    finally:
        await web.close()
    return {**login, **_members(token)}


async def log_out(login: Mapping[str, Any]) -> bool:
    """Ask the issuer to forget the tokens of a login. Returns whether it says that it has."""
    if login.get("by") != BY:
        return False
    web = Web(ANSWER_SECONDS, complains=False)
    try:
        issuer = Issuer(login["issuer"], web, allow_http=login["allow_http"])
        oauth = OAuthClient(issuer, login["client_id"], _secret_for(login), seconds=ANSWER_SECONDS)
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
    """Return the client's secret, where its issuer has got it at the login: it goes to no other."""
    return (os.environ.get(CREDENTIAL_VARIABLE) or None) if login.get("has_secret") else None


def _members(token: Token) -> dict[str, Any]:
    return {"access_token": token.access, "expires_at": token.expires_at, "refresh_token": token.refresh}


@asynccontextmanager
async def _conversation(server: str, client: Client) -> AsyncIterator[OAuthClient]:
    """Ask a server who issues its tokens, and yield the client of that issuer; say in words what goes wrong."""
    web = Web(ANSWER_SECONDS, complains=False)
    try:
        base = base_of(check_transport("--connect", server, allow_http=client.allow_http))
        resource = base + RESOURCE_PATHS["cli"]
        issuer_url = issuer_of(await web.get(base + METADATA_PATH + RESOURCE_PATHS["cli"]), resource)
        if client.secret is not None:  # the server may name anybody
            (client.trust or IssuerTrust(None, None)).check(server, issuer_url)
        issuer = Issuer(issuer_url, web, allow_http=client.allow_http)
        yield OAuthClient(
            issuer, client.id, client.secret, scopes=client.scopes, resource=resource, seconds=ANSWER_SECONDS
        )
    except Refused as exc:
        raise AuthenticationError(f"The login has failed: {exc}.") from None
    except Unavailable as exc:
        raise BackendUnavailable(f"The login is not possible: {exc}.") from None
    finally:
        await web.close()


def base_of(server: str) -> str:
    """Return the platform's address: that of its command-line port, without the port's own path."""
    parts = urlsplit(server)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/cli").rstrip("/"), "", ""))
