"""What first-party plugins take: for advice when one is not installed, and for nothing else."""

from __future__ import annotations

DISTRIBUTION_PREFIX = "nexus-hub-"

OPTIONS: dict[str, tuple[str, ...]] = {
    "api": (
        "api_port", "api_name", "api_middleware",
        "cors_origins", "compression_level", "event_heartbeat", "websocket_calls",
        "websocket_handshakes",
    ),
    "cli": (
        "cli_port", "cli_name", "enable_shell_completion", "enable_history", "history_size", "enable_colors",
        "enable_progress_bars",
    ),
    "mcp": (
        "mcp_port", "mcp_name", "enable_tool_discovery", "enable_resource_discovery", "enable_streaming",
        "tool_timeout", "mcp_wait", "mcp_platform_tools",
        "max_concurrent_sessions", "mcp_max_sessions_per_caller", "mcp_allowed_origins", "mcp_session_idle_timeout",
    ),
    "hypercorn": (
        "enable_https", "ssl_cert_path", "ssl_key_path", "ssl_key_password", "keep_alive_timeout", "send_timeout",
        "websocket_ping_interval", "websocket_max_message_bytes", "drain_seconds",
    ),
    "kailash": (),
    "auth": (
        "enable_auth", "auth_strategy", "auth_providers", "auth_provider", "auth_service_url", "auth_resource_url",
        "auth_timeout", "auth_cache_ttl", "auth_allow_http", "jwt_secret", "jwt_public_key", "jwt_jwks_url",
        "jwt_algorithms", "jwt_issuer", "jwt_audience", "jwt_leeway", "jwt_required_claims", "jwt_user_claim",
        "jwt_tenant_claim", "jwt_permissions_claim", "jwt_scopes_claim", "jwt_keys_ttl", "jwt_keys_cooldown",
        "oauth2_introspection_url", "oauth2_client_id", "oauth2_client_secret", "oauth2_scopes", "api_key_file",
        "auth_browser_login", "auth_browser_ttl", "enable_csrf_protection", "enable_security_headers",
    ),
    "ratelimit": (
        "enable_rate_limiting", "rate_limit_per_minute", "rate_limit_strategy", "rate_limit_before_auth",
        "rate_limit_backend",
        "rate_limit_max_keys", "auth_failures_per_minute",
    ),
    "breaker": (
        "enable_circuit_breaker", "circuit_breaker_failure_threshold", "circuit_breaker_reset_timeout",
        "circuit_breaker_backend",
    ),
    "cache": (
        "enable_caching", "cache_backend", "cache_ttl", "cache_manager", "cache_timeout", "cache_max_entries",
        "cache_max_bytes", "cache_max_entry_bytes",
    ),
    "sessions": (
        "enable_sessions", "session_backend", "session_ttl", "session_cleanup_interval", "session_max_bytes",
        "session_manager_timeout", "sqlite_path", "sqlite_caller_max_entries", "sqlite_caller_max_bytes",
    ),
    "redis": (
        "redis_url", "redis_pool_size", "redis_pool_max_connections", "redis_timeout", "redis_key_prefix",
        "redis_events_kept", "redis_caller_max_entries", "redis_caller_max_bytes",
    ),
    "logs": (
        "log_format", "log_invocations", "log_redact", "audit_log", "audit_parameters", "audit_required",
    ),
    "metrics": (
        "enable_monitoring", "enable_metrics", "metrics_backend", "metrics_port", "metrics_token",
        "metrics_multiprocess_dir", "monitoring_service_url", "monitoring_service_token", "metrics_push_interval",
    ),
    "tracing": (
        "enable_tracing", "tracing_endpoint", "tracing_token", "tracing_sample_ratio", "tracing_trust_parent",
        "tracing_push_interval", "tracing_instrument",
    ),
    "health": ("enable_health_checks", "health_check_interval", "health_check_timeout", "health_port",
        "health_non_critical"),
    "pools": (
        "postgres_url", "db_pool_size", "db_pool_max_connections", "db_pool_timeout", "http_pool_size",
        "http_pool_max_connections", "http_pool_timeout",
    ),
}  # fmt: skip
"""Every option of each first-party plugin."""

METADATA: dict[str, dict[str, str | None]] = {
    "ratelimit": {"rate_limit": "enable_rate_limiting"},
    "breaker": {"circuit_breaker": "enable_circuit_breaker"},
    "cache": {"cache": "enable_caching", "cache_ttl": "enable_caching", "cache_context_safe": "enable_caching"},
    "logs": {"sensitive_parameters": None},
}
"""The keys of workflows' metadata that each first-party plugin reads, and the option that switches it on."""

MIDDLEWARE = {
    ("auth",): "enable_auth",
    ("rate_limit",): "enable_rate_limiting",
    ("rate_limit", "auth"): "rate_limit_before_auth",
}
"""Names in ``api_middleware`` that mean a policy of all channels, in that order, and the option they switch on."""

SERVICES = {
    "db_pool": ("pools", "postgres_url"),
    "http_pool": ("pools", ""),
    "redis_pool": ("redis", "redis_url"),
    "command_line": ("cli", ""),
    "auth_manager": ("auth", "enable_auth"),
    "metrics_collector": ("metrics", "enable_metrics"),
    "rate_limiter": ("ratelimit", "enable_rate_limiting"),
}
"""What first-party plugins have for applications and workflows: the plugin, and the option that switches it on."""

COMMANDS = {"doctor": "health", "keys": "auth", "login": "auth", "logout": "auth", "why": "auth"}
"""Commands of first-party plugins, and the plugin that has each."""

GUARDS = {"enable_auth": "auth"}
"""Options that guard access, and the plugin without which they must stop the start."""


def every_option() -> set[str]:
    """Return the options of all first-party plugins."""
    return {option for options in OPTIONS.values() for option in options}


def owner_of(option: str) -> str | None:
    """Return the first-party plugin that an option belongs to, or None."""
    return next((plugin for plugin, options in OPTIONS.items() if option in options), None)
