"""``nexus doctor``: looks at everything that may be wrong, and says how to mend it."""
