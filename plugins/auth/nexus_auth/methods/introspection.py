"""The `Method` for tokens that only the issuer can read: OAuth2 token introspection (RFC 7662)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from nexus_auth.credential_cache import VerifiedCredential
from nexus_auth.methods.api_keys import PREFIX
from nexus_auth.methods.jwt import ANY_AUDIENCE, TokenRules, check_claims, expiry
from nexus_auth.methods.method import Method
from nexus_auth.principals import principal_of_claims
from nexus_auth.rejection import Rejected, Unavailable

if TYPE_CHECKING:
    from nexus_auth.credentials import Credential
    from nexus_auth.oauth.json_client import JsonClient

MAX_REQUESTS = 1000
"""Maximum tokens that are introspected at a time: made-up tokens must not use up memory."""


class Introspection(Method):
    """Introspects tokens at the issuer. Concurrent calls with the same token share one request.

    Args:
        http: The HTTP client.
        url: The introspection endpoint.
        client_id: OAuth2 client id.
        client_secret: OAuth2 client secret.
        rules: Rules for the response. ``iss`` and ``aud`` are checked where present.
        seconds: Seconds for which a response is cached.
    """

    name = "oauth2"

    def __init__(
        self, http: JsonClient, url: str, client_id: str, client_secret: str, rules: TokenRules, seconds: float
    ) -> None:
        self._http = http
        self._url = url
        self._client = (client_id, client_secret)
        self._rules = rules
        self._seconds = seconds
        self._requests: dict[bytes, asyncio.Task[Any]] = {}

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`. API keys are never sent to the issuer."""
        return credential.scheme == "bearer" and not credential.token.startswith(PREFIX)

    async def verify(self, credential: Credential) -> VerifiedCredential:
        """See `Method.verify`."""
        key = sha256(credential.token.encode()).digest()
        task = self._requests.get(key)
        if task is None:
            if len(self._requests) >= MAX_REQUESTS:
                raise Unavailable("too many introspection requests are open")
            task = self._requests[key] = asyncio.create_task(
                self._introspect(credential.token), name="nexus-introspect"
            )
            task.add_done_callback(lambda done: self._finished(key, done))
        return self._verified(await asyncio.shield(task))

    def _finished(self, key: bytes, task: asyncio.Task[Any]) -> None:
        self._requests.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieved: those who wait get it

    async def _introspect(self, token: str) -> Any:
        from authlib.integrations.httpx_client import OAuth2ClientAuth  # type: ignore[import-untyped]

        auth = OAuth2ClientAuth(*self._client, "client_secret_basic")
        return await self._http.post(self._url, {"token": token, "token_type_hint": "access_token"}, auth)

    def _verified(self, claims: Any) -> VerifiedCredential:
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise Rejected("the issuer says that the token is not active")
        check_claims(claims, self._rules_for(claims))
        if self._rules.names.user == "sub" and "sub" not in claims and "client_id" in claims:
            claims = {**claims, "sub": claims["client_id"]}  # a token of the client itself has no other subject
        principal = principal_of_claims(claims, self._rules.names)
        return VerifiedCredential(principal, self._seconds, expiry(claims), self._rules.leeway)

    def _rules_for(self, claims: dict[str, Any]) -> TokenRules:
        """Members of the response are optional (RFC 7662, section 2.2): the issuer has verified the token itself."""
        issuers = self._rules.issuers if "iss" in claims else ()
        audience = self._rules.audience if self._rules.audience and "aud" in claims else (ANY_AUDIENCE,)
        return replace(self._rules, required=(), issuers=issuers, audience=audience)

    async def close(self) -> None:
        """See `Method.close`."""
        requests = list(self._requests.values())
        for task in requests:
            task.cancel()
        if requests:
            await asyncio.wait(requests)
