"""Finds the application that a command line names. Nothing in the working directory runs unless it is named."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nexus_core.app.loading import StartedWhileLoading, loading
from nexus_core.errors import ConfigurationError
from nexus_core.plugins.shadows import hidden_libraries, name_clash

if TYPE_CHECKING:
    from types import ModuleType

    from nexus_core.app.nexus import Nexus

DEFAULT_ATTRIBUTES = ("nexus", "app")


def configured_app() -> str | None:
    """Return ``app:`` of the file that ``NEXUS_CONFIG_FILE`` names, if there is one.

    Raises:
        ConfigurationError: The file can't be read.
    """
    path = os.environ.get("NEXUS_CONFIG_FILE")
    if not path:
        return None
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"The configuration file {path} can't be read: {exc.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"The configuration file {path} is not YAML: {' '.join(str(exc).split())}") from None
    app = content.get("app") if isinstance(content, dict) else None
    if app is not None and not isinstance(app, str):
        raise ConfigurationError(f"app in {path} must be text such as module:attribute.")
    return app


def load(target: str) -> Nexus:
    """Return the application called ``module:attribute`` or ``path/to/file.py:attribute``.

    Without an attribute it is ``nexus``, or else ``app``. Of a file that calls `Nexus.start`, or `Nexus.serving`, when
    it is imported, it is the one that is started: that is not served here, and code after the call does not run.

    Raises:
        ConfigurationError: There is no such module, file or attribute, importing it failed, or it is something else.
    """
    place, attribute = split(target)
    is_loading = loading.set(True)
    try:
        module = _from_file(Path(place), target) if is_file(place) else _from_path(place, target)
    except StartedWhileLoading as exc:
        return cast("Nexus", exc.nexus)
    finally:
        loading.reset(is_loading)
    found = _attribute(module, attribute, target)
    from nexus_core.app.nexus import Nexus

    if not isinstance(found, Nexus):
        clash = name_clash() if type(found).__module__.partition(".")[0] == "nexus" else None
        raise ConfigurationError(f"{target} is a {type(found).__name__}, not a Nexus. {clash or ''}".rstrip())
    return found


def split(target: str) -> tuple[str, str]:
    """Return a target's module or file and its attribute, which may be empty."""
    place, _, attribute = target.rpartition(":")
    if not place or "/" in attribute or attribute.endswith(".py"):
        return target, ""
    return place, attribute


def is_file(place: str) -> bool:
    """Whether a target names a file, not a module."""
    return place.endswith(".py") or "/" in place


def _from_file(path: Path, target: str) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(f"{target}: there is no file {path}.")
    path = path.resolve()
    _import_from(path.parent)
    name = path.stem if path.stem not in sys.modules else f"nexus_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{target}: {path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # type hints and pickles look their module up by name
    loader = spec.loader
    _run(lambda: loader.exec_module(module), target)
    return module


def _from_path(name: str, target: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(f"{target!r} names no application: use module:attribute or path/to/file.py:attribute.")
    _import_from(Path.cwd())
    found: list[ModuleType] = []
    _run(lambda: found.append(importlib.import_module(name)), target)
    return found[0]


def _import_from(folder: Path) -> None:
    if str(folder) in sys.path:
        return
    sys.path.insert(0, str(folder))
    if hidden := hidden_libraries():
        sys.path.remove(str(folder))  # what reports this needs some of them
        raise ConfigurationError(" ".join(hidden))


def _run(action: Any, target: str) -> None:
    try:
        action()
    except ConfigurationError as exc:
        raise ConfigurationError(f"{target}: {exc}") from exc
    except (KeyboardInterrupt, StartedWhileLoading):
        raise
    except BaseException as exc:  # a script that calls sys.exit is not an application either
        reason = " ".join(str(exc).split())
        raise ConfigurationError(f"{target} can't be imported: {type(exc).__name__}: {reason}") from exc


def _attribute(module: ModuleType, attribute: str, target: str) -> Any:
    for name in (attribute,) if attribute else DEFAULT_ATTRIBUTES:
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    wanted = attribute or " or ".join(DEFAULT_ATTRIBUTES)
    raise ConfigurationError(f"{target}: {module.__name__} has no attribute {wanted}.")
