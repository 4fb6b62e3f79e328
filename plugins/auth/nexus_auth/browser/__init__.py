"""Login in a browser, and what protects it."""
