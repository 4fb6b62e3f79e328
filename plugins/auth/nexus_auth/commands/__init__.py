"""The commands ``nexus keys``, ``nexus why``, ``nexus login`` and ``nexus logout``."""
