"""The ASGI server under every channel that listens: hypercorn."""
