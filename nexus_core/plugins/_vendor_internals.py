"""The one place where the core uses what pluggy keeps private. It fits pluggy 1.6 and 1.7."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pluggy


def forget_name(manager: pluggy.PluginManager, name: str) -> None:
    """Free the name of a plugin whose registration has failed: `register` leaves it behind."""
    manager._name2plugin.pop(name, None)
