"""Options of the plugin ``auth``."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003  (pydantic reads the annotation)
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from nexus_core.options.settings import PluginSettings, Seconds

Strategy = Literal["jwt", "oauth2", "api_key"]

_URL = re.compile(r"[!#-;=?-Z_a-z~\[\]%]+")
"""Characters of a URL: nothing that would end a header or a quoted string."""

_URLS = ("auth_service_url", "auth_resource_url", "jwt_jwks_url", "oauth2_introspection_url")


class AuthSettings(PluginSettings):
    """Authentication, authorization and login."""

    provides: ClassVar[dict[str, str | None]] = {"authentication": "enable_auth"}

    policies: ClassVar[dict[str, str]] = {"auth": "enable_auth"}

    services: ClassVar[dict[str, str | None]] = {"auth_manager": "enable_auth"}

    enable_auth: bool = Field(False, description="Authenticate and authorize every call.")
    auth_strategy: Strategy | None = Field(
        None, description="Authentication strategy: `jwt`, `oauth2` or `api_key`. Default: implied by other options."
    )
    auth_providers: list[Strategy] = Field([], description="Several strategies; a credential must satisfy one.")
    auth_provider: Any = Field(None, description="A custom `AuthProvider` object.")
    auth_service_url: str | None = Field(None, description="URL of the token issuer (OpenID Connect or OAuth2).")
    auth_resource_url: str | None = Field(
        None, description="Public URL of this platform. Default: `public_url`, else the URL that the caller used."
    )
    auth_timeout: Seconds = Field(5.0, description="Seconds that the issuer or a custom provider gets to respond.")
    auth_cache_ttl: float = Field(
        60.0, ge=0, le=86_400, description="Seconds for which introspection responses are cached."
    )
    auth_allow_http: bool = Field(False, description="Allow an issuer on another machine without TLS.")
    jwt_secret: SecretStr | None = Field(None, description="Shared secret that tokens are signed with (HS256).")
    jwt_public_key: str | None = Field(None, description="Public key of the issuer: PEM, JWK, JWK set, or a file.")
    jwt_jwks_url: str | None = Field(None, description="URL of the issuer's key set. Default: from its metadata.")
    jwt_algorithms: list[str] = Field([], description="Allowed signature algorithms. Default: all that fit the keys.")
    jwt_issuer: str | None = Field(None, description="Required `iss` claim. Default: from the issuer's metadata.")
    jwt_audience: list[str] = Field([], description="Accepted values of `aud`; `*` accepts any.")
    jwt_leeway: float = Field(30.0, ge=0, le=600, description="Tolerated clock difference in seconds.")
    jwt_required_claims: list[str] = Field(["exp"], description="Claims that a token must have.")
    jwt_user_claim: str = Field("sub", min_length=1, description="Claim with the user id.")
    jwt_tenant_claim: str = Field("tenant_id", description="Claim with the tenant id; empty for none.")
    jwt_permissions_claim: str = Field("permissions", description="Claim with the permissions; empty for none.")
    jwt_scopes_claim: str = Field("scope", description="Claim with the scopes; empty for none.")
    jwt_keys_ttl: Seconds = Field(300.0, description="Seconds after which the issuer's keys are fetched again.")
    jwt_keys_cooldown: Seconds = Field(30.0, description="Minimum seconds between two fetches for an unknown key.")
    oauth2_introspection_url: str | None = Field(None, description="URL of token introspection (RFC 7662).")
    oauth2_client_id: str | None = Field(None, description="OAuth2 client id.")
    oauth2_scopes: list[str] = Field([], description="Scopes that `nexus login` and the browser login request.")
    oauth2_client_secret: SecretStr | None = Field(None, description="OAuth2 client secret.")
    auth_browser_login: bool = Field(False, description="Enable the login for browsers at `/auth/login`.")
    auth_browser_ttl: Seconds = Field(28_800.0, description="Maximum lifetime of a browser session in seconds.")
    enable_csrf_protection: bool = Field(True, description="CSRF protection for cookie-authenticated requests.")
    enable_security_headers: bool = Field(True, description="Send security headers where `enable_auth` is on.")
    api_key_file: Path | None = Field(None, description="File with the hashed API keys.")

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
