"""`OAuthClient`: gets tokens from an issuer, for the command line, browsers and programs."""

from __future__ import annotations

import asyncio
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from nexus_auth.oauth.issuer import configured_issuer
from nexus_auth.rejection import Rejected, Unavailable
from nexus_core.text import printable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from nexus_auth.oauth.issuer import Issuer
    from nexus_auth.oauth.json_client import JsonClient
    from nexus_auth.settings import AuthSettings

LAST_SECOND = 1e12
"""Seconds since the epoch; a later expiry is ignored."""

MAX_TOKEN = 16 * 1024
"""Maximum characters of a token."""

MAX_REQUESTS = 20
"""Maximum concurrent requests to the token endpoint: any client can send a made-up code."""


class Token(NamedTuple):
    """The response of a token endpoint.

    Attributes:
        access: The access token.
        expires_at: Its expiry in seconds since the epoch, or None if unknown.
        refresh: The refresh token, or None.
    """

    access: str
    expires_at: float | None
    refresh: str | None


class OAuthClient:
    """One client of one issuer (RFC 6749, with RFC 7636 for codes and RFC 8707 for what tokens are for).

    Args:
        issuer: The issuer.
        client_id: OAuth2 client id.
        client_secret: OAuth2 client secret; None for a public client.
        scopes: The scopes to request.
        resource: The resource that the tokens are for, or None.
        seconds: Time limit of a request.
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
        self._slots = asyncio.Semaphore(MAX_REQUESTS)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The TLS context, cached: creating one takes longer than the rest of a login."""
        import httpx2

        return httpx2.create_ssl_context()

    def _client(self) -> Any:
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]

        from nexus_auth.oauth.token_responses import bound

        return AsyncOAuth2Client(
            self._client_id, self._client_secret, scope=self._scope, verify=self._tls, timeout=None,
            headers={"Accept-Encoding": "identity"}, follow_redirects=False, event_hooks={"response": [bound]},
            token_endpoint_auth_method="none" if self._client_secret is None else "client_secret_basic",
        )  # fmt: skip

    async def authorization_url(self, redirect_uri: str, state: str, verifier: str) -> str:
        """Return the URL of the login.

        Args:
            redirect_uri: Where the issuer redirects to after the login.
            state: Returned by the issuer with the redirect.
            verifier: The PKCE code verifier, needed to redeem the code.

        Raises:
            Unavailable: The issuer's metadata can't be used.
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
        """Return a new token. Without a new refresh token, the old one stays valid. Raises as `fetch` does."""
        found = await self.fetch(grant_type="refresh_token", refresh_token=token)
        return found if found.refresh else found._replace(refresh=token)

    async def fetch(self, **form: str) -> Token:
        """Request a token.

        Raises:
            Rejected: The issuer rejects the request.
            Unavailable: The issuer does not respond, or not with a token.
        """
        from authlib.integrations.base_client.errors import OAuthError  # type: ignore[import-untyped]

        address = await self.issuer.endpoint("token_endpoint")
        try:
            async with asyncio.timeout(self._seconds), self._slots, self._client() as client:
                found = await client.fetch_token(address, **form, **self._resource)
        except OAuthError as exc:
            raise Rejected(f"the issuer refuses: {printable(f'{exc.error} {exc.description or str()}', 300)}") from None
        except TimeoutError:
            raise Unavailable(f"{address}: no response within {self._seconds:g} s") from None
        except Unavailable as exc:
            raise Unavailable(f"{address}: {exc}") from None
        except Exception as exc:  # untrusted input
            raise Unavailable(f"{address}: {type(exc).__name__}: {printable(str(exc), 200)}") from None
        return token_of(found)

    async def revoke(self, token: str) -> bool:
        """Revoke a token at the issuer (RFC 7009). Returns whether the issuer confirms it."""
        try:
            address = await self.issuer.endpoint("revocation_endpoint")
            async with asyncio.timeout(self._seconds), self._client() as client:
                answer = await client.revoke_token(address, token=token)
        except Exception:  # best effort
            return False
        return bool(answer.status_code == 200)


def code_in(answer: Mapping[str, str], metadata: Mapping[str, Any]) -> str:
    """Return the authorization code of a redirect.

    Args:
        answer: The query parameters of the redirect, with the expected state.
        metadata: The metadata of the expected issuer.

    Raises:
        Rejected: The login failed; or another issuer redirected (RFC 9207), which must not get the code.
    """
    issuer, must_say = answer.get("iss"), metadata.get("authorization_response_iss_parameter_supported") is True
    if issuer != metadata["issuer"] and (issuer is not None or must_say):
        raise Rejected("the redirect is not from the expected issuer")
    if "error" in answer:
        said = f"{answer['error']} {answer.get('error_description', '')}"
        raise Rejected(f"the issuer refuses: {printable(said.strip(), 300)}")
    if not answer.get("code"):
        raise Rejected("the issuer sent no code")
    return answer["code"]


def token_of(found: Any) -> Token:
    """Return the token in the response of a token endpoint.

    Raises:
        Unavailable: It has no usable bearer token.
    """
    members: dict[str, Any] = found if isinstance(found, dict) else {}
    access, kind = members.get("access_token"), members.get("token_type", "bearer")
    if not is_token(access) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise Unavailable("the issuer's response has no bearer token")
    end, refresh = members.get("expires_at"), members.get("refresh_token")
    expires_at = float(end) if isinstance(end, (int, float)) and abs(end) < LAST_SECOND else None
    return Token(access, expires_at, refresh if is_token(refresh) else None)


def is_token(value: Any) -> TypeGuard[str]:
    """Whether a value can be sent as a token."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TOKEN and value.isascii() and value.isprintable()


def issuer_of(found: Any, resource: str) -> str:
    """Return the issuer in protected resource metadata (RFC 9728).

    Args:
        found: The metadata.
        resource: The resource that they must be about.

    Raises:
        Unavailable: They are about another resource, or have no issuer.
    """
    members = found if isinstance(found, dict) else {}
    issuers = members.get("authorization_servers")
    if members.get("resource") != resource:
        named = printable(json.dumps(members.get("resource")), 200)
        raise Unavailable(f"the metadata of {resource} are about {named}: connect to that URL")
    if not isinstance(issuers, list) or not issuers or not isinstance(issuers[0], str):
        raise Unavailable(f"the metadata of {resource} have no authorization server")
    return issuers[0]


def configured_client(settings: AuthSettings, http: JsonClient) -> OAuthClient:
    """Return the client that the options describe, for the browser login."""
    assert settings.oauth2_client_id is not None  # see `refuse_gaps`
    secret = settings.oauth2_client_secret
    return OAuthClient(
        configured_issuer(settings, http), settings.oauth2_client_id,
        None if secret is None else secret.get_secret_value(), scopes=settings.oauth2_scopes,
        resource=settings.auth_resource_url, seconds=settings.auth_timeout,
    )  # fmt: skip
