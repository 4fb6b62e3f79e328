"""Asks the issuer about each token (OAuth2 token introspection, RFC 7662)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from nexus_auth.api_keys import PREFIX
from nexus_auth.jwt_tokens import Rules, check_claims, expiry
from nexus_auth.known import Verified
from nexus_auth.principals import principal_of_claims
from nexus_auth.refusal import Refused, Unavailable
from nexus_auth.settings import ANY

if TYPE_CHECKING:
    from nexus_auth.credentials import Credential
    from nexus_auth.web import Web

MAX_QUESTIONS = 1000
"""Tokens that the issuer is being asked about. Whoever makes up more must not use up memory."""


class Introspection:
    """The `Method` of callers whose tokens only the issuer can read.

    However many calls come with one token at a time, it is asked about once.

    Args:
        web: Who asks.
        url: Where.
        client_id: What this platform is called there.
        client_secret: What proves it.
        rules: What the answer must be like. ``iss`` and ``aud`` are looked at where they are there.
        seconds: For how long an answer holds.
    """

    name = "oauth2"

    def __init__(self, web: Web, url: str, client_id: str, client_secret: str, rules: Rules, seconds: float) -> None:
        self._web = web
        self._url = url
        self._client = (client_id, client_secret)
        self._rules = rules
        self._seconds = seconds
        self._asking: dict[bytes, asyncio.Task[Any]] = {}

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`. API keys are none of the issuer's business."""
        return credential.scheme == "bearer" and not credential.token.startswith(PREFIX)

    async def verify(self, credential: Credential) -> Verified:
        """See `Method.verify`."""
        key = sha256(credential.token.encode()).digest()
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= MAX_QUESTIONS:
                raise Unavailable("too many questions are open")
            task = self._asking[key] = asyncio.create_task(self._answer(credential.token), name="nexus-auth-token")
            task.add_done_callback(lambda done: self._answered(key, done))
        return self._verified(await asyncio.shield(task))

    def _answered(self, key: bytes, task: asyncio.Task[Any]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # those who wait have it

    async def _answer(self, token: str) -> Any:
        from authlib.integrations.httpx_client import OAuth2ClientAuth  # type: ignore[import-untyped]

        auth = OAuth2ClientAuth(*self._client, "client_secret_basic")
        return await self._web.post(self._url, {"token": token, "token_type_hint": "access_token"}, auth)

    def _verified(self, claims: Any) -> Verified:
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise Refused("the issuer says that it is not active")
        check_claims(claims, self._rules_for(claims))
        if self._rules.names.user == "sub" and "sub" not in claims and "client_id" in claims:
            claims = {**claims, "sub": claims["client_id"]}  # a token of the client itself: nobody else is its subject
        principal = principal_of_claims(claims, self._rules.names)
        return Verified(principal, self._seconds, expiry(claims), self._rules.leeway)

    def _rules_for(self, claims: dict[str, Any]) -> Rules:
        """Members of the answer are optional (RFC 7662, section 2.2): the issuer has looked at the token itself."""
        issuers = self._rules.issuers if "iss" in claims else ()
        audience = self._rules.audience if self._rules.audience and "aud" in claims else (ANY,)
        return replace(self._rules, required=(), issuers=issuers, audience=audience)

    async def open(self) -> None:
        """See `Method.open`."""

    async def close(self) -> None:
        """See `Method.close`."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
