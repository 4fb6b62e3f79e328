"""All of Nexus under one name: `Nexus` and whatever else the core has; submodules have what belongs to plugins.

Nothing is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nexus_core

if TYPE_CHECKING:
    from nexus_core import *  # noqa: F403

__all__ = nexus_core.__all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(nexus_core, name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
