"""`OAuthClient`: gets tokens from an issuer, for people at a command line or in a browser, and for programs."""

from __future__ import annotations

import asyncio
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from nexus_auth.refusal import Refused, Unavailable
from nexus_core.text import printable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from nexus_auth.issuer import Issuer

LAST_SECOND = 1e12
"""Seconds since the epoch that no token's end lies after."""

MAX_TOKEN = 16 * 1024
"""Characters of a token."""

MAX_ASKING = 20
"""How many answers of the token endpoint are waited for at a time: anybody can bring a code that is none."""


class Token(NamedTuple):
    """What an issuer gives.

    Attributes:
        access: What calls are made with.
        expires_at: Seconds since the epoch, or None where it does not say.
        refresh: What another one can be had for, or None.
    """

    access: str
    expires_at: float | None
    refresh: str | None


class OAuthClient:
    """One client of one issuer (RFC 6749, with RFC 7636 for codes and RFC 8707 for what tokens are for).

    Args:
        issuer: The issuer.
        client_id: What this client is called there.
        client_secret: What proves it; None for a client that can keep no secret.
        scopes: What is asked for.
        resource: What the tokens are for, or None.
        seconds: How long an answer may take.
    """

    def __init__(
        self, issuer: Issuer, client_id: str, client_secret: str | None = None, *, scopes: Sequence[str] = (),
        resource: str | None = None, seconds: float = 10.0,
    ) -> None:  # fmt: skip
        self.issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = " ".join(scopes) or None
        self.resource = resource
        self._resource = {} if resource is None else {"resource": resource}
        self._seconds = seconds
        self._slots = asyncio.Semaphore(MAX_ASKING)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """What certificates are checked against: reading it takes longer than all else that a login does."""
        import httpx2

        return httpx2.create_ssl_context()

    def _client(self) -> Any:
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]

        from nexus_auth.token_answers import bound

        return AsyncOAuth2Client(
            self._client_id, self._client_secret, scope=self._scope, verify=self._tls, timeout=None,
            headers={"Accept-Encoding": "identity"}, follow_redirects=False, event_hooks={"response": [bound]},
            token_endpoint_auth_method="none" if self._client_secret is None else "client_secret_basic",
        )  # fmt: skip

    async def authorization_url(self, redirect_uri: str, state: str, verifier: str) -> str:
        """Return where a person logs in.

        Args:
            redirect_uri: Where the issuer sends the person then.
            state: Comes back with the person.
            verifier: The secret of PKCE: only who has it can redeem the code.

        Raises:
            Unavailable: The issuer does not say where.
        """
        from authlib.oauth2.client import OAuth2Client  # type: ignore[import-untyped]

        address = await self.issuer.endpoint("authorization_endpoint")
        client = OAuth2Client(
            None, self._client_id, scope=self._scope, redirect_uri=redirect_uri, code_challenge_method="S256"
        )
        url, _ = client.create_authorization_url(address, state=state, code_verifier=verifier, **self._resource)
        return str(url)

    async def redeem(self, code: str, redirect_uri: str, verifier: str) -> Token:
        """Return the token for a code. Raises as `fetch` does."""
        return await self.fetch(
            grant_type="authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier
        )

    async def client_credentials(self) -> Token:
        """Return a token for the client itself. Raises as `fetch` does."""
        return await self.fetch(grant_type="client_credentials", **({"scope": self._scope} if self._scope else {}))

    async def refresh(self, token: str) -> Token:
        """Return another token. The one it is had for stays good where no other comes. Raises as `fetch` does."""
        found = await self.fetch(grant_type="refresh_token", refresh_token=token)
        return found if found.refresh else found._replace(refresh=token)

    async def fetch(self, **form: str) -> Token:
        """Ask the issuer for a token.

        Raises:
            Refused: It gives none.
            Unavailable: It does not answer, or not with a token.
        """
        from authlib.integrations.base_client.errors import OAuthError  # type: ignore[import-untyped]

        address = await self.issuer.endpoint("token_endpoint")
        try:
            async with asyncio.timeout(self._seconds), self._slots, self._client() as client:
                found = await client.fetch_token(address, **form, **self._resource)
        except OAuthError as exc:
            raise Refused(f"the issuer refuses: {printable(f'{exc.error} {exc.description or str()}', 300)}") from None
        except TimeoutError:
            raise Unavailable(f"{address}: no answer within {self._seconds:g} s") from None
        except Unavailable as exc:
            raise Unavailable(f"{address}: {exc}") from None
        except Exception as exc:  # the issuer's answer may be anything
            raise Unavailable(f"{address}: {type(exc).__name__}: {printable(str(exc), 200)}") from None
        return token_of(found)

    async def revoke(self, token: str) -> bool:
        """Ask the issuer to forget a token (RFC 7009). Returns whether it says that it has."""
        try:
            address = await self.issuer.endpoint("revocation_endpoint")
            async with asyncio.timeout(self._seconds), self._client() as client:
                answer = await client.revoke_token(address, token=token)
        except Exception:  # it is only a courtesy
            return False
        return bool(answer.status_code == 200)


def code_in(answer: Mapping[str, str], metadata: Mapping[str, Any]) -> str:
    """Return the code that an issuer has sent a person back with.

    Args:
        answer: What came back with the person, whose state is the right one.
        metadata: Those of the issuer that was asked.

    Raises:
        Refused: It says no; or the answer is another issuer's (RFC 9207), to whom the code must not be given away.
    """
    issuer, must_say = answer.get("iss"), metadata.get("authorization_response_iss_parameter_supported") is True
    if issuer != metadata["issuer"] and (issuer is not None or must_say):
        raise Refused("the answer to the login is not from the issuer that was asked")
    if "error" in answer:
        said = f"{answer['error']} {answer.get('error_description', '')}"
        raise Refused(f"the issuer refuses: {printable(said.strip(), 300)}")
    if not answer.get("code"):
        raise Refused("the issuer has sent no code")
    return answer["code"]


def token_of(found: Any) -> Token:
    """Return what a token endpoint has answered.

    Raises:
        Unavailable: That is no token that calls can be made with.
    """
    members: dict[str, Any] = found if isinstance(found, dict) else {}
    access, kind = members.get("access_token"), members.get("token_type", "bearer")
    if not is_token(access) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise Unavailable("the issuer has answered with no bearer token")
    end, refresh = members.get("expires_at"), members.get("refresh_token")
    expires_at = float(end) if isinstance(end, (int, float)) and abs(end) < LAST_SECOND else None
    return Token(access, expires_at, refresh if is_token(refresh) else None)


def is_token(value: Any) -> TypeGuard[str]:
    """Whether something can be sent as a token."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TOKEN and value.isascii() and value.isprintable()


def issuer_of(found: Any, resource: str) -> str:
    """Return the issuer that protected resource metadata name (RFC 9728).

    Args:
        found: The metadata.
        resource: The resource that they were asked of.

    Raises:
        Unavailable: They are another's, or name no issuer.
    """
    members = found if isinstance(found, dict) else {}
    issuers = members.get("authorization_servers")
    if members.get("resource") != resource:
        named = printable(json.dumps(members.get("resource")), 200)
        raise Unavailable(f"{resource} describes itself as {named}: connect to that address")
    if not isinstance(issuers, list) or not issuers or not isinstance(issuers[0], str):
        raise Unavailable(f"{resource} names no issuer of tokens")
    return issuers[0]
