"""All of Nexus under one name: every name of the core; submodules have the names of plugins.

Names are imported when they are first used.
"""

from __future__ import annotations

import os
from typing import Any

import nexus_core

__all__ = nexus_core.__all__


def _refuse_name_clash() -> None:
    """Check that ``kailash-nexus``, whose package has the same name, is not installed into the same folder.

    Raises:
        ImportError: It is: some modules are its files, others are these.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    if any(entry.startswith("kailash_nexus-") for entry in os.listdir(os.path.dirname(folder))):
        from nexus_core.plugins.shadows import name_clash

        if (clash := name_clash(folder)) is not None:
            raise ImportError(clash)


_refuse_name_clash()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(nexus_core, name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
