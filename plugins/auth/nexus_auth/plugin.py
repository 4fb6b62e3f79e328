"""`AuthPlugin`: authentication and authorization of every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_auth.settings import AuthSettings
from nexus_core import Plugin

if TYPE_CHECKING:
    from nexus_auth.authenticator import Authenticator
    from nexus_auth.browser.sessions import BrowserSessions
    from nexus_auth.credential_cache import VerifiedCredential
    from nexus_auth.methods.factory import MethodFactory
    from nexus_auth.oauth.json_client import JsonClient
    from nexus_core import Command, Interceptor, Platform, Route
    from nexus_core.pipeline.authorization import Authorizer
    from nexus_core.server.channel import Middleware
    from nexus_core.types.health import HealthCheck


class AuthPlugin(Plugin[AuthSettings]):
    """Authenticates and authorizes every call, while ``enable_auth`` is on.

    Attributes:
        sessions: The sessions of the browser login, while that is on and the platform is started.
    """

    def __init__(self, platform: Platform, settings: AuthSettings) -> None:
        super().__init__(platform, settings)
        if settings.enable_auth or settings.auth_browser_login:
            from nexus_auth.option_checks import refuse_contradictions

            refuse_contradictions(settings)
        self.sessions: BrowserSessions | None = None
        self._http: JsonClient | None = None
        self._authenticator: Authenticator | None = None
        self._factory: MethodFactory | None = None
        self._authorizer: Authorizer | None = None

    @property
    def guards_access(self) -> bool:  # type: ignore[override]
        """Whether access is guarded."""
        return self.settings.enable_auth

    @property
    def _public_url(self) -> str | None:
        return self.settings.auth_resource_url or self.platform.options.public_url

    async def startup(self) -> None:
        """Open the authentication methods.

        Raises:
            ConfigurationError: An option is missing, or can't be used.
        """
        settings, platform = self.settings, self.platform
        if not settings.enable_auth:
            return
        from nexus_auth.authenticator import Authenticator
        from nexus_auth.challenge import Challenges
        from nexus_auth.credential_cache import CredentialCache
        from nexus_auth.methods.custom import GuardedCalls
        from nexus_auth.methods.factory import MethodFactory
        from nexus_auth.oauth.issuer import issuer_url
        from nexus_auth.oauth.json_client import JsonClient
        from nexus_auth.option_checks import refuse_gaps

        refuse_gaps(settings)
        cache = CredentialCache(recheck=platform.credentials.recheck)
        self._http = JsonClient(settings.auth_timeout)
        calls = GuardedCalls(platform.threads, settings.auth_timeout)
        self._factory = MethodFactory(settings, self._http, platform.threads, calls, cache.clear)
        methods = self._factory.methods()
        self._authorizer = self._factory.authorizer()
        challenges = Challenges(has_issuer=issuer_url(settings) is not None, resource_url=settings.auth_resource_url)
        self.sessions = None
        if settings.auth_browser_login:
            from nexus_auth.browser.sessions import BrowserMethod, BrowserSessions

            https = (self._public_url or "").startswith("https://")
            self.sessions = BrowserSessions(
                lambda: platform.store(None, "store"), settings.auth_browser_ttl, cache.forget, https=https
            )
            methods = [BrowserMethod(self.sessions, self.verify), *methods]
        read_cookie = None if self.sessions is None else self.sessions.id_of
        self._authenticator = Authenticator(cache, settings.auth_timeout, challenges, read_cookie)
        try:
            await self._authenticator.open(methods)
        except BaseException:
            await self.shutdown()
            raise

    async def shutdown(self) -> None:
        """Close the authentication methods and every connection."""
        if self._authenticator is not None:
            await self._authenticator.close()
        if self._http is not None:
            await self._http.close()

    async def verify(self, authorization: str) -> tuple[str, VerifiedCredential]:
        """Return the name of the method that accepts a credential, and its result. See `Authenticator.verify`."""
        assert self._authenticator is not None  # the platform is started
        return await self._authenticator.verify(authorization)

    def nexus_register_interceptors(self) -> list[Interceptor]:
        """Return the stage that authenticates callers."""
        return [] if self._authenticator is None else [self._authenticator]

    def nexus_register_authorizers(self) -> list[Authorizer]:
        """Return the authorizer."""
        return [] if self._authorizer is None else [self._authorizer]

    def nexus_register_routes(self) -> list[Route]:
        """Return the routes of the resource metadata and of the browser login, where there is an issuer."""
        from nexus_auth.oauth.issuer import issuer_url

        configured = issuer_url(self.settings)
        if self._factory is None or configured is None:
            return []
        from nexus_auth.metadata import metadata_routes

        issuer = self._factory.issuer
        routes = metadata_routes(lambda: configured if issuer is None else issuer.name, self._public_url)
        if self.sessions is not None:
            from nexus_auth.browser.login import PREFIX, BrowserLogin
            from nexus_auth.oauth.client import configured_client
            from nexus_core import Route

            assert self._http is not None  # created with the factory
            client = configured_client(self.settings, self._http)
            app = BrowserLogin(self.platform, client, self.sessions, self.verify, self._public_url)
            routes.append(Route(PREFIX, app))
        return routes

    def nexus_register_middleware(self) -> list[Middleware]:
        """Return the middleware that protects browsers."""
        found: list[Middleware] = []
        if self._authenticator is not None and self.settings.enable_security_headers:
            from nexus_auth.browser.security_headers import SecurityHeaders

            found.append(SecurityHeaders)
        if (sessions := self.sessions) is not None and self.settings.enable_csrf_protection:
            from nexus_auth.browser.csrf import CsrfProtection

            public = urlsplit((self._public_url or "").lower())
            origin = f"{public.scheme}://{public.netloc}" if public.netloc else None
            found.append(lambda app: CsrfProtection(app, sessions, origin, self._links))
        return found

    def _links(self) -> list[str]:
        return [channel.answers for channel in self.platform.channels if channel.answers]

    def nexus_register_health_checks(self) -> list[HealthCheck]:
        """Return the check of the issuer's keys. It is not critical: cached keys are used while it fails."""
        from nexus_core.types.health import HealthCheck

        keys = None if self._factory is None else self._factory.keys
        return [] if keys is None else [HealthCheck("auth_keys", keys.check, is_critical=False)]

    def nexus_register_services(self) -> dict[str, object]:
        """Return ``auth_manager``, for an application's own routes."""
        if not self.settings.enable_auth:
            return {}
        from nexus_auth.auth_manager import AuthManager

        return {"auth_manager": AuthManager(self.platform)}

    def nexus_register_commands(self) -> list[Command]:
        """Return ``nexus keys``, ``nexus why``, ``nexus login`` and ``nexus logout``."""
        from nexus_auth.commands.keys import key_commands
        from nexus_auth.commands.login import login_commands
        from nexus_auth.commands.why import why_command

        return [
            key_commands(self.settings),
            why_command(self.platform, self.verify if self.settings.enable_auth else None),
            *login_commands(self.settings),
        ]

    @staticmethod
    def nexus_renew_login(login: dict[str, Any]) -> dict[str, Any] | None:
        """Renew a login of ``nexus login``."""
        from nexus_auth.commands.login_flow import renewed
        from nexus_core.concurrency import process

        return process.run(renewed(login))
