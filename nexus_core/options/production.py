"""`ProductionConfig`: the options of a platform that others rely on, as one object for ``Nexus(config=...)``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PRODUCTION: Mapping[str, Any] = MappingProxyType({"enable_auth": True, "log_format": "json"})
"""Defaults in production."""


class ProductionConfig:
    """Options for production. Authentication is on and logs are JSON, by default.

    It comes last: an argument of `Nexus`, the environment and the configuration file all override it, so that one
    build runs everywhere. Its errors are raised when a `Nexus` is made with it, by the option's name.

    Example::

        nexus = Nexus(config=ProductionConfig(auth_service_url="https://auth.example.com", enable_https=True, ...))

    Args:
        options: Any options, see ``docs/reference/options.md``; what is None is not set.
    """

    def __init__(self, **options: Any) -> None:
        vars(self).update({name: value for name, value in {**PRODUCTION, **options}.items() if value is not None})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(sorted(vars(self)))})"  # values may be secrets
