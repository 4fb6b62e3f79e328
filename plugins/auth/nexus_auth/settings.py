"""Options of the plugin ``auth``."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path  # noqa: TC003  (pydantic reads the annotation)
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from nexus_core.options.sources import PluginSettings, Seconds

if TYPE_CHECKING:
    from nexus_auth.gate import Gate

Strategy = Literal["jwt", "oauth2", "api_key"]

ANY = "*"
"""As ``jwt_audience``: tokens made out for whatever service."""

_URL = re.compile(r"[!#-;=?-Z_a-z~\[\]%]+")
"""Characters of a URL: nothing that would end a header or a text in quotes."""

_URLS = ("auth_service_url", "auth_resource_url", "jwt_jwks_url", "oauth2_introspection_url")


class AuthSettings(PluginSettings):
    """How callers say who they are, and how that is checked."""

    provides: ClassVar[dict[str, str | None]] = {"authentication": "enable_auth"}

    policies: ClassVar[dict[str, str]] = {"auth": "enable_auth"}

    services: ClassVar[dict[str, str | None]] = {"auth_manager": "enable_auth"}

    enable_auth: bool = Field(False, description="Ask every caller who it is, and what it may do.")
    auth_strategy: Strategy | None = Field(
        None, description="How callers say who they are: `jwt`, `oauth2` or `api_key`; none for what the others imply."
    )
    auth_providers: list[Strategy] = Field([], description="Several of these; each caller needs one.")
    auth_provider: Any = Field(None, description="An `AuthProvider` of your own.")
    auth_service_url: str | None = Field(None, description="The issuer of tokens, an OpenID Connect or OAuth2 server.")
    auth_resource_url: str | None = Field(
        None,
        description="The address under which callers reach this platform; none for `public_url`, or the one they used.",
    )
    auth_timeout: Seconds = Field(5.0, description="Seconds that the issuer, or your own provider, gets for an answer.")
    auth_cache_ttl: float = Field(
        60.0, ge=0, le=86_400, description="Seconds for which the issuer's answer about a token (introspection) holds."
    )
    auth_allow_http: bool = Field(False, description="Use an issuer on another machine without TLS.")
    jwt_secret: SecretStr | None = Field(None, description="The secret that tokens are signed with (HS256).")
    jwt_public_key: str | None = Field(None, description="The public key of who signs them: PEM or JWK, or a file.")
    jwt_jwks_url: str | None = Field(None, description="Where the public keys are, if not where the issuer says.")
    jwt_algorithms: list[str] = Field([], description="Algorithms that may be used; none for those that fit the keys.")
    jwt_issuer: str | None = Field(None, description="What `iss` must be; none for what the issuer calls itself.")
    jwt_audience: list[str] = Field([], description="What `aud` must have: one of these, or `*` for anything.")
    jwt_leeway: float = Field(30.0, ge=0, le=600, description="Seconds by which clocks may differ.")
    jwt_required_claims: list[str] = Field(["exp"], description="Claims that a token must have.")
    jwt_user_claim: str = Field("sub", min_length=1, description="The claim with the user's id.")
    jwt_tenant_claim: str = Field("tenant_id", description="The claim with the tenant; empty for none.")
    jwt_permissions_claim: str = Field("permissions", description="The claim with permissions; empty for none.")
    jwt_scopes_claim: str = Field("scope", description="The claim with scopes; empty for none.")
    jwt_keys_ttl: Seconds = Field(300.0, description="Seconds after which the issuer's keys are asked for again.")
    jwt_keys_cooldown: Seconds = Field(30.0, description="Seconds between two asks for a key that was not there.")
    oauth2_introspection_url: str | None = Field(None, description="Where tokens are asked about (RFC 7662).")
    oauth2_client_id: str | None = Field(None, description="What this platform is called there.")
    oauth2_scopes: list[str] = Field([], description="What `nexus login` and pages ask the issuer for.")
    oauth2_client_secret: SecretStr | None = Field(None, description="What proves it.")
    auth_browser_login: bool = Field(False, description="Let people log in in a browser, at `/auth/login`.")
    auth_browser_ttl: Seconds = Field(28_800.0, description="Seconds after which they have to log in again.")
    enable_csrf_protection: bool = Field(True, description="Refuse what other sites make a logged-in browser send.")
    enable_security_headers: bool = Field(True, description="Tell browsers to be careful, where `enable_auth` is on.")
    api_key_file: Path | None = Field(None, description="Where API keys are kept, hashed.")

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any, info: Any) -> Any:
        optional = cls.model_fields[info.field_name].default is None
        return None if optional and isinstance(value, str) and not value.strip() else value

    @field_validator(*_URLS, mode="after")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        return value if value is None else _url(value)

    @field_validator("auth_provider", mode="after")
    @classmethod
    def _is_a_provider(cls, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, type):
            raise ValueError(f"must be an object, not the class: {value.__name__}(...)")
        if not any(callable(getattr(value, name, None)) for name in ("authenticate", "authorize")):
            raise ValueError(f"must be an AuthProvider, not a {type(value).__name__}")
        return value

    @model_validator(mode="after")
    def _does_not_contradict_itself(self) -> AuthSettings:
        if self.enable_auth:
            from nexus_auth.plan import refuse_contradictions

            refuse_contradictions(self)
        elif self.auth_browser_login:
            raise ValueError("auth_browser_login: nobody need log in where enable_auth is off; switch it on too.")
        return self

    @cached_property
    def gate(self) -> Gate:
        """What the options come to, for the one platform that has them.

        Raises:
            ConfigurationError: Something is missing.
        """
        from nexus_auth.gate import Gate

        return Gate(self)


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not _URL.fullmatch(value):
        raise ValueError("must be a URL such as https://auth.example.com")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must be a URL without user, password and fragment")
    return value
