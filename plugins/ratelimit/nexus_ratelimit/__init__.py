"""A budget of calls for each caller, the same on every channel."""
