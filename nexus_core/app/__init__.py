"""`Nexus`: the facade, the lifecycle and the hook specs."""
