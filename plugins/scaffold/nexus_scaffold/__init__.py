"""``nexus plugins new``: writes a plugin to begin with, and tests that pass."""
