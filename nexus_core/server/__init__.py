"""What channels and servers are to the core: ASGI routing, request limits, addresses, ports."""
