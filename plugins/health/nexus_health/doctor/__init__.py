"""``nexus doctor``: finds common problems and how to fix them."""
