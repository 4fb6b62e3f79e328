"""Ways to authenticate a caller: tokens, introspection, API keys, and the application's own provider."""
