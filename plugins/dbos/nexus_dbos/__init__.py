"""The run engine ``dbos``: durable runs in SQLite or PostgreSQL."""
