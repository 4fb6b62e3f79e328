"""Makes a module of names that are defined elsewhere, and imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def names(module: str, **homes: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return a module's ``__getattr__``, ``__dir__`` and ``__all__``.

    Args:
        module: The module's name, for errors.
        homes: Where each name is defined: ``package.module``, or ``package.module:Other`` if it is called Other there.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, other = homes[name].partition(":")
        try:
            return getattr(import_module(home), other or name)
        except ModuleNotFoundError as exc:
            package = home.partition(".")[0]
            if exc.name is None or exc.name.partition(".")[0] != package:
                raise
            missing = package.removeprefix("nexus_").replace("_", "-")
            raise ImportError(f"{module}.{name} needs the plugin {missing}: pip install nexus-hub-{missing}") from None

    return find, lambda: sorted(homes), sorted(homes)
