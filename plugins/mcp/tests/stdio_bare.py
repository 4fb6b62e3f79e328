"""Served by `test_stdio.py`: an application without the plugin."""

from nexus_core import Nexus

nexus = Nexus(discover=False)
