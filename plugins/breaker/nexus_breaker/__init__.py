"""A circuit breaker for each workflow."""
