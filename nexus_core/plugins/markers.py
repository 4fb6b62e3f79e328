"""pluggy's two markers under the project's name, and nothing else."""

from __future__ import annotations

import pluggy

PROJECT = "nexus"
MARK = f"{PROJECT}_impl"
"""The attribute that marks a hook implementation."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
