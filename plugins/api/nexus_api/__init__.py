"""The API channel: REST, WebSocket and event streams."""
