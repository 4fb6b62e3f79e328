"""The command line of Nexus, and the channel through which it reaches a running server."""
