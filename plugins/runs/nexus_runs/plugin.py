"""The plugin ``runs``."""

from __future__ import annotations

from nexus_core import Plugin
from nexus_runs.settings import RunsSettings


class RunsPlugin(Plugin[RunsSettings]):
    """The run stores ``sqlite`` and ``postgres``."""
