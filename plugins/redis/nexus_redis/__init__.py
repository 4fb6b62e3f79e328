"""Redis under Nexus: one bounded pool of connections, and a store of shared state."""
