"""An application with a command of its own."""

import sys

from nexus_core import Command, Nexus, hookimpl


@hookimpl
def nexus_register_commands(nexus):
    def inventory(prefix: str = ""):
        return None

    return [Command("inventory", inventory, "List what is in stock.")]


nexus = Nexus(plugins=[sys.modules[__name__]])
