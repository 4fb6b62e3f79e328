"""Where requests go: an application in this process, or a running server."""
