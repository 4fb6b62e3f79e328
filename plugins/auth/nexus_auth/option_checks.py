"""Checks of several options together: contradictions, missing options, and the strategies they come to."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from nexus_auth.methods.algorithms import ASYMMETRIC, SYMMETRIC, refuse_short_secret
from nexus_auth.provider import authenticates_alone
from nexus_core.errors import ConfigurationError
from nexus_core.text import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_auth.settings import AuthSettings

KEYS = ("jwt_secret", "jwt_public_key", "jwt_jwks_url")
"""Options for the keys that tokens are signed with. At most one is set."""


def strategies(settings: AuthSettings) -> Sequence[str]:
    """Return the built-in authentication strategies, in the order in which they are tried."""
    if settings.auth_providers:
        return list(dict.fromkeys(settings.auth_providers))
    if settings.auth_strategy is not None:
        return [settings.auth_strategy]
    found = ["api_key"] if settings.api_key_file is not None else []
    if authenticates_alone(settings.auth_provider):
        return found
    if _given(settings, KEYS):
        return [*found, "jwt"]
    if settings.oauth2_introspection_url is not None or settings.auth_service_url is not None:
        return [*found, "oauth2"]
    return found


def has_fixed_key(settings: AuthSettings) -> bool:
    """Whether the options contain the key that tokens of the strategy ``jwt`` are verified with."""
    return settings.jwt_secret is not None or settings.jwt_public_key is not None


def refuse_contradictions(settings: AuthSettings) -> None:
    """Refuse options that contradict each other.

    Raises:
        ConfigurationError: Two options contradict each other; the message names both.
    """
    if not settings.enable_auth:
        if settings.auth_browser_login:
            raise ConfigurationError("auth_browser_login: a login needs authentication: set enable_auth=True too.")
        return
    wanted, providers = settings.auth_strategy, settings.auth_providers
    if wanted is not None and providers and wanted not in providers:
        raise ConfigurationError(f'auth_strategy: "{wanted}" is not one of auth_providers: {", ".join(providers)}.')
    keys = _given(settings, KEYS)
    if len(keys) > 1:
        raise ConfigurationError(f"{keys[1]}: {keys[0]} is set too. Set only one of {', '.join(KEYS)}.")
    _refuse_unused(settings, keys)
    _refuse_unfit_algorithms(settings, keys)
    if settings.jwt_secret is not None:
        refuse_short_secret(settings.jwt_secret.get_secret_value(), settings.jwt_algorithms or ["HS256"])


def _refuse_unused(settings: AuthSettings, keys: Sequence[str]) -> None:
    """Refuse options that look as if they protected something, and are not used."""
    provider, introspection = settings.auth_provider, _given(settings, ["oauth2_introspection_url"])
    if authenticates_alone(provider):
        if unused := [*keys, *introspection]:
            raise ConfigurationError(
                f"{unused[0]}: not used: auth_provider ({type(provider).__name__}) authenticates callers itself."
            )
        return
    chosen = strategies(settings)
    if not chosen:
        return
    for option in keys:
        if "jwt" not in chosen and not ("oauth2" in chosen and option == "jwt_jwks_url"):
            raise ConfigurationError(f"{option}: belongs to the strategy jwt, but {_chosen(settings)}.")
    if introspection and "oauth2" not in chosen:
        raise ConfigurationError(f"{introspection[0]}: belongs to the strategy oauth2, but {_chosen(settings)}.")


def _refuse_unfit_algorithms(settings: AuthSettings, keys: Sequence[str]) -> None:
    for name in settings.jwt_algorithms:
        if name not in SYMMETRIC | ASYMMETRIC:
            near = nearest(name, sorted(SYMMETRIC | ASYMMETRIC))
            hint = f" Did you mean {near}?" if near else ""
            raise ConfigurationError(f"jwt_algorithms: {name!r} is not a supported signature algorithm.{hint}")
        if name in SYMMETRIC and settings.jwt_secret is None and (keys or settings.auth_service_url):
            where = keys[0] if keys else "auth_service_url"
            raise ConfigurationError(f"jwt_algorithms: {name} needs jwt_secret, but {where} has public keys.")
        if name in ASYMMETRIC and settings.jwt_secret is not None:
            raise ConfigurationError(f"jwt_algorithms: {name} needs a public key, but jwt_secret is a shared secret.")


def refuse_gaps(settings: AuthSettings) -> None:
    """Refuse to start while an option is missing.

    Raises:
        ConfigurationError: Callers can't be authenticated with these options; the message names what to set.
    """
    chosen = strategies(settings)
    if settings.auth_browser_login:
        _refuse_gaps_of_browsers(settings)
    if "api_key" in chosen and settings.api_key_file is None:
        raise ConfigurationError("api_key_file: required by the strategy api_key. Set it to the file for API keys.")
    if authenticates_alone(settings.auth_provider):
        return
    if not chosen:
        raise ConfigurationError(
            "enable_auth: no authentication method is set. Set auth_strategy to jwt, oauth2 or api_key "
            "(or auth_providers to several), or auth_provider to an AuthProvider object."
        )
    keys = _given(settings, KEYS)
    if "jwt" in chosen and not keys and settings.auth_service_url is None:
        raise ConfigurationError(f"auth_strategy: jwt needs one of {', '.join(KEYS)}, auth_service_url.")
    if "oauth2" in chosen:
        _refuse_gaps_of_oauth2(settings)
    if _uses_keys_of_an_issuer(settings, chosen, keys) and not settings.jwt_audience:
        raise ConfigurationError(
            "jwt_audience: required, because an issuer issues tokens for several services. Set it to the `aud` of "
            'tokens for this platform, or to "*" to accept any.'
        )


def _refuse_gaps_of_browsers(settings: AuthSettings) -> None:
    for option in ("auth_service_url", "oauth2_client_id"):
        if getattr(settings, option) is None:
            raise ConfigurationError(f"{option}: required by auth_browser_login, for the login at the issuer.")
    if find_spec("starlette") is None:
        raise ConfigurationError("auth_browser_login: needs the plugin api: pip install nexus-hub-api.")


def _refuse_gaps_of_oauth2(settings: AuthSettings) -> None:
    if settings.oauth2_introspection_url is None:
        if settings.auth_service_url is None and settings.jwt_jwks_url is None:
            raise ConfigurationError("auth_strategy: oauth2 needs auth_service_url, or oauth2_introspection_url.")
        return
    for option in ("oauth2_client_id", "oauth2_client_secret"):
        if getattr(settings, option) is None:
            raise ConfigurationError(f"{option}: required by oauth2_introspection_url, to authenticate the client.")


def _uses_keys_of_an_issuer(settings: AuthSettings, chosen: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether tokens are verified with the keys of an issuer, which may serve other platforms too."""
    by_keys = "oauth2" in chosen and settings.oauth2_introspection_url is None
    return by_keys or ("jwt" in chosen and (not keys or "jwt_jwks_url" in keys))


def _given(settings: AuthSettings, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(settings, name) is not None]


def _chosen(settings: AuthSettings) -> str:
    if settings.auth_providers:
        return f"auth_providers is {', '.join(settings.auth_providers)}"
    return f"auth_strategy is {settings.auth_strategy}"
