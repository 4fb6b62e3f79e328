"""pluggy's two markers under the project's name, and nothing else."""

from __future__ import annotations

import pluggy

PROJECT = "nexus"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
