"""`state_file`: where a plugin keeps a file of its state."""

from __future__ import annotations

import os
from pathlib import Path


def state_file(path: Path | None, name: str) -> Path:
    """Return a file of state as an absolute path.

    Args:
        path: Where the operator wants it. None: in the folder ``nexus`` of the state directory of the XDG
            Base Directory Specification.
        name: Its name there.
    """
    if path is not None:
        return path.expanduser().absolute()
    directory = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not directory.is_absolute():  # relative paths are ignored, as the specification requires
        directory = Path("~/.local/state").expanduser()
    return directory / "nexus" / name
