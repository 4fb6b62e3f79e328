"""``nexus mcp-config``: the configuration of MCP clients."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from nexus_cli.options import UsageError
from nexus_core.app.applications import is_file, split

DEFAULT_PORT = 3001


def configuration(app: str | None, name: str) -> dict[str, Any]:
    """Return two servers: one that the client starts (stdio), and a running one (HTTP).

    Args:
        app: ``module:attribute`` or ``file.py:attribute``.
        name: Name of the server in the client; the HTTP server's name ends with ``-http``.

    Raises:
        UsageError: No application is named.
    """
    if app is None:
        raise UsageError("No application is named. Set --app module:attribute (or NEXUS_APP).")
    script = shutil.which("nexus")
    command, arguments = (script, []) if script else (sys.executable, ["-m", "nexus_core"])
    place, attribute = split(app)
    stdio: dict[str, Any] = {"command": command, "args": [*arguments, "serve", "--stdio", app]}
    if is_file(place):
        where = str(Path(place).resolve())
        stdio["args"][-1] = f"{where}:{attribute}" if attribute else where
    else:
        stdio["env"] = {"PYTHONPATH": str(Path.cwd())}
    if config_file := os.environ.get("NEXUS_CONFIG_FILE"):
        stdio.setdefault("env", {})["NEXUS_CONFIG_FILE"] = str(Path(config_file).resolve())
    port = os.environ.get("NEXUS_MCP_PORT", DEFAULT_PORT)
    return {"mcpServers": {name: stdio, f"{name}-http": {"type": "http", "url": f"http://127.0.0.1:{port}/mcp"}}}
