"""``nexus login`` and ``nexus logout``. The command line brings typer: nothing else may import this module."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from nexus_toolkit.login_file import Logins

from nexus_auth.commands.login_flow import Client, log_in_person, log_in_program, log_out
from nexus_auth.commands.trusted_issuers import IssuerTrust
from nexus_core import Command
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from nexus_auth.settings import AuthSettings


def login_commands(settings: AuthSettings) -> list[Command]:
    """Return the commands."""
    actions = LoginCommands(settings)
    return [
        Command("login", actions.login, "Log in to the server that --connect names."),
        Command("logout", actions.logout, "Log out of the server that --connect names."),
    ]


_ClientId = Annotated[str, typer.Option("--client-id", metavar="ID", help="OAuth2 client id. [oauth2_client_id]")]


_Issuer = Annotated[
    str,
    typer.Option("--issuer", metavar="URL", help="The issuer that the client secret is sent to. [auth_service_url]"),
]


class LoginCommands:
    """``nexus login`` and ``nexus logout``, with the client that the options describe."""

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings

    async def login(
        self,
        context: typer.Context,
        client_id: _ClientId = "",
        issuer: _Issuer = "",
        scope: Annotated[
            list[str] | None, typer.Option("--scope", metavar="SCOPE", help="A scope to request; may be repeated.")
        ] = None,
        client_credentials: Annotated[
            bool, typer.Option("--client-credentials", metavar="", help="Log in as the client itself, for programs.")
        ] = False,
        no_browser: Annotated[
            bool, typer.Option("--no-browser", metavar="", help="Print the URL instead of opening a browser.")
        ] = False,
    ) -> None:
        """Log in to the server that --connect names; calls to it then need no --token.

        The login happens in a browser. With --client-credentials, the client logs in with its secret (environment
        variable NEXUS_OAUTH2_CLIENT_SECRET). The secret is sent to the issuer that --issuer names, or that you confirm.
        """
        server = _server(context)
        client = self._client(client_id, scope, issuer)
        if client_credentials:
            if client.secret is None:
                raise ConfigurationError(
                    "--client-credentials: oauth2_client_secret (NEXUS_OAUTH2_CLIENT_SECRET) is not set."
                )
            login = await log_in_program(server, client)
        else:
            show = lambda url: typer.echo(f"Log in here: {url}", err=True)  # noqa: E731
            login = await log_in_person(server, client, show, browser=not no_browser)
        Logins().set(server, login)
        _tell(context, f"Logged in to {server}.", {"server": server, "expires_at": login["expires_at"]})

    async def logout(self, context: typer.Context) -> int:
        """Log out of the server that --connect names, and revoke its tokens at the issuer."""
        server, logins = _server(context), Logins()
        login = logins.get(server)
        if login is None:
            _tell(context, f"Not logged in to {server}.", {"server": server, "logged_out": False})
            return 0
        logins.remove(server)
        revoked = await log_out(login)
        _tell(context, f"Logged out of {server}.", {"server": server, "logged_out": True, "revoked": revoked})
        return 0

    def _client(self, client_id: str, scope: list[str] | None, issuer: str) -> Client:
        settings = self._settings
        chosen = client_id or settings.oauth2_client_id
        if not chosen:
            raise ConfigurationError("--client-id (NEXUS_OAUTH2_CLIENT_ID) is not set. Set it to the OAuth2 client id.")
        secret = settings.oauth2_client_secret
        return Client(
            chosen,
            None if secret is None else secret.get_secret_value(),
            tuple(settings.oauth2_scopes if scope is None else scope),
            settings.auth_allow_http,
            IssuerTrust(issuer or settings.auth_service_url, _confirm if _is_on_terminal() else None),
        )


def _is_on_terminal() -> bool:
    """Whether a user can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirm(question: str) -> bool:
    return typer.confirm(question, err=True)


def _server(context: typer.Context) -> str:
    server: str | None = context.obj.options.connect
    if not server:
        raise ConfigurationError("--connect (NEXUS_CONNECT) is not set. Set it to the URL of the server.")
    return server


def _tell(context: typer.Context, text: str, members: dict[str, Any]) -> None:
    output = context.obj.output
    if output.pretty:
        output.line(text)
    else:
        output.document(members)
