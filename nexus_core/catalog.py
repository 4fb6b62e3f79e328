"""The first-party plugins and their options: for advice when one is not installed, and for nothing else."""

from __future__ import annotations

DISTRIBUTION_PREFIX = "nexus-hub-"

OPTIONS: dict[str, tuple[str, ...]] = {
    "api": ("api_port", "api_config", "cors_origins", "api_allowed_hosts", "compression_level"),
    "cli": ("cli_port", "cli_config"),
    "mcp": ("mcp_port", "mcp_config", "tool_timeout", "max_concurrent_sessions", "mcp_allowed_hosts"),
    "auth": (
        "enable_auth", "auth_strategy", "auth_provider", "auth_providers", "auth_service_url", "jwt_secret",
        "enable_csrf_protection",
    ),
    "ratelimit": ("enable_rate_limiting", "rate_limit_per_minute", "rate_limit_strategy"),
    "breaker": ("enable_circuit_breaker", "circuit_breaker_failure_threshold", "circuit_breaker_reset_timeout"),
    "cache": ("enable_caching", "cache_backend", "cache_ttl", "cache_manager"),
    "sessions": ("enable_sessions", "session_backend", "session_ttl", "session_cleanup_interval"),
    "redis": ("redis_url", "redis_pool_size", "redis_pool_max_connections"),
    "metrics": ("enable_monitoring", "enable_metrics", "metrics_backend", "metrics_port", "monitoring_service_url"),
    "tracing": ("enable_tracing",),
    "health": ("enable_health_checks", "health_check_interval"),
    "durable": ("postgres_url", "db_pool_size", "db_pool_max_connections", "db_pool_timeout"),
}  # fmt: skip
"""The options of each first-party plugin that users meet in documentation."""

GUARDS = {"enable_auth": "auth"}
"""Options that guard access, and the plugin without which they must stop the start."""


def owner_of(option: str) -> str | None:
    """Return the first-party plugin that an option belongs to, or None."""
    return next((plugin for plugin, options in OPTIONS.items() if option in options), None)
