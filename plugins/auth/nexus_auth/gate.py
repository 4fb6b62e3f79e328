"""`Gate`: everything that the options ask for, put together: who is asked, what is remembered, who decides."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nexus_auth.build import Builder, issuer_of
from nexus_auth.challenge import Challenges
from nexus_auth.credentials import authorization_of, read
from nexus_auth.known import Accepted, KnownCredentials, Verified, key_of
from nexus_auth.own import GuardedCalls
from nexus_auth.plan import refuse_gaps
from nexus_auth.refusal import NOT_ACCEPTED, Refused, Unavailable, nobody_answers
from nexus_auth.stage import Authentication
from nexus_auth.web import Web
from nexus_core.errors import AuthenticationError
from nexus_core.types.health import HealthCheck

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_auth.authorizers import BuiltInRule, OwnRule
    from nexus_auth.browser_sessions import BrowserSessions
    from nexus_auth.issuer import Issuer
    from nexus_auth.methods import Method
    from nexus_auth.remote_keys import RemoteKeys
    from nexus_auth.settings import AuthSettings
    from nexus_core.app.nexus import Nexus
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.server.channel import Middleware, Route

log = logging.getLogger(__name__)

NONE = "This needs a credential: Authorization: Bearer TOKEN (on the command line --token, or NEXUS_TOKEN)."
ANY_BEARER = AuthenticationError("").challenge
"""The challenge of an error that was raised without one."""

SPARE_SECONDS = 1.0
"""How much later than `auth_timeout` an answer is given up that should have given up itself."""


class Gate:
    """Finds out who callers are, and knows who decides what they may do.

    Args:
        settings: The options.

    Attributes:
        known: Credentials that were accepted.
        stage: The stage of the pipeline.
        sessions: Those of browsers, where they may log in; after `open`.
        authorizer: Who decides; after `open`.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._web: Web | None = None
        self._methods: Sequence[Method] = ()
        self._issuer: Issuer | None = None
        self._keys: RemoteKeys | None = None
        self._challenges = Challenges(
            has_issuer=issuer_of(settings) is not None, resource_url=settings.auth_resource_url
        )
        self.known = KnownCredentials()
        self.sessions: BrowserSessions | None = None
        self.stage = Authentication(self.known, self.identify)
        self.authorizer: BuiltInRule | OwnRule | None = None

    async def open(self, nexus: Nexus) -> None:
        """Get ready to ask.

        Raises:
            ConfigurationError: Something that is needed is not set, or can't be used.
        """
        refuse_gaps(self._settings)
        self.known.clear()
        self._recheck = nexus.credentials.recheck
        self._web = Web(self._settings.auth_timeout)
        calls = GuardedCalls(nexus.threads, self._settings.auth_timeout)
        builder = Builder(self._settings, self._web, nexus.threads, calls, self._forget)
        self._methods = builder.methods()
        if self._settings.auth_browser_login:
            self._let_browsers_in(nexus)
        self.authorizer = builder.authorizer()
        self._issuer, self._keys = builder.issuer, builder.keys
        try:
            for method in self._methods:
                await method.open()
        except BaseException:
            await self.close()
            raise

    def _forget(self) -> None:
        """Check everything again that was accepted, and what is open: the keys are others than before."""
        self.known.clear()
        self._recheck()

    def _ended(self, authorization: str) -> None:
        """End what is open with a credential that is good no longer."""
        self.known.forget(authorization)
        self._recheck(key_of(authorization))

    def _let_browsers_in(self, nexus: Nexus) -> None:
        from nexus_auth.browser_sessions import BrowserMethod, BrowserSessions

        https = (self._public_url(nexus) or "").startswith("https://")
        self.sessions = BrowserSessions(
            lambda: nexus.store(None, "store"), self._settings.auth_browser_ttl, self._ended, https=https
        )
        self._methods = [BrowserMethod(self.sessions, self.verified), *self._methods]
        self.stage = Authentication(self.known, self.identify, self.sessions)

    async def close(self) -> None:
        """Stop asking, and let go of every connection."""
        for method in self._methods:
            await method.close()
        if self._web is not None:
            await self._web.close()

    def routes(self, nexus: Nexus) -> list[Route]:
        """Return where clients learn who gives tokens for this platform; nothing where nobody knows."""
        configured = issuer_of(self._settings)
        if configured is None:
            return []
        from nexus_auth.metadata import metadata_routes

        asked = self._issuer
        found = metadata_routes(lambda: configured if asked is None else asked.name, self._public_url(nexus))
        return [*found, *self._browser_routes(nexus)]

    def _browser_routes(self, nexus: Nexus) -> list[Route]:
        if self.sessions is None:
            return []
        from nexus_auth.browser import PREFIX, BrowserLogin
        from nexus_auth.build import oauth_client
        from nexus_core.server.channel import Route

        assert self._web is not None  # it is open
        client = oauth_client(self._settings, self._web)
        app = BrowserLogin(nexus, client, self.sessions, self.verified, self._public_url(nexus))
        return [Route(PREFIX, app)]

    def health_checks(self) -> list[HealthCheck]:
        """Return whether the issuer's keys can be had. Not critical: those from before are used while it is away."""
        return [] if self._keys is None else [HealthCheck("auth_keys", self._keys.check, is_critical=False)]

    def _public_url(self, nexus: Nexus) -> str | None:
        return self._settings.auth_resource_url or nexus.options.public_url

    def middleware(self, nexus: Nexus) -> list[Middleware]:
        """Return what stands in front of every channel that listens."""
        found: list[Middleware] = []
        if self._settings.enable_security_headers:
            from nexus_auth.security_headers import SecurityHeaders

            found.append(SecurityHeaders)
        if (sessions := self.sessions) is not None and self._settings.enable_csrf_protection:
            from nexus_auth.csrf import CsrfProtection

            public = urlsplit((self._public_url(nexus) or "").lower())
            origin = f"{public.scheme}://{public.netloc}" if public.netloc else None
            found.append(lambda app: CsrfProtection(app, sessions, origin))
        return found

    async def identify(self, invocation: Invocation) -> Accepted:
        """Return who sent an invocation's credential.

        Raises:
            AuthenticationError: There is none, or it is not accepted.
            BackendUnavailable: Who would know does not answer.
        """
        authorization = authorization_of(invocation, self.sessions)
        if authorization is None:
            raise AuthenticationError(NONE, challenge=self._challenges.missing(invocation.channel))
        try:
            _, verified = await self.verified(authorization)
        except Refused as exc:
            log.debug("A credential is refused: %s", exc)
            challenge = self._challenges.invalid(invocation.channel)
            raise AuthenticationError(NOT_ACCEPTED, challenge=challenge) from None
        except AuthenticationError as exc:  # a provider's own
            if exc.challenge == ANY_BEARER or not exc.challenge.isprintable():
                exc.challenge = self._challenges.invalid(invocation.channel)
            raise
        except Unavailable as exc:
            log.debug("A credential can't be checked: %s", exc)
            raise nobody_answers() from None
        return self.known.add(authorization, verified)

    async def verified(self, authorization: str) -> tuple[str, Verified]:
        """Return who sent a credential, and the name of the method that knows it: the first that accepts.

        Raises:
            Refused: It is not accepted.
            Unavailable: Who would know does not answer.
            NexusError: The application's own provider has raised it.
        """
        credential = read(authorization)
        unavailable: Unavailable | None = None
        reasons: list[str] = []
        for method in self._methods:
            if not method.takes(credential):
                continue
            try:
                async with asyncio.timeout(self._settings.auth_timeout + SPARE_SECONDS):
                    return method.name, await method.verify(credential)
            except Refused as exc:
                reasons.append(f"{method.name}: {exc}")
            except Unavailable as exc:
                unavailable = exc
            except TimeoutError:
                unavailable = Unavailable(f"{method.name}: no answer in time")
        if unavailable is not None:
            raise unavailable
        raise Refused("; ".join(reasons) or "nothing takes one of its form")
