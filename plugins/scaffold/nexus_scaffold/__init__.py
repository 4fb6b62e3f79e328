"""``nexus plugins new``: writes a new plugin, with tests that pass."""
