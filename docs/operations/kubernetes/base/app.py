"""What the manifests of docs/operations serve, until it is your application."""

from nexus_core import Context, Nexus

nexus = Nexus()


@nexus.workflow
async def greet(name: str, *, context: Context) -> dict[str, str]:
    """Greet somebody, and tell which database is used.

    Args:
        name: Whom to greet.
        context: Has the pool of connections.
    """
    async with context.service("db_pool").acquire() as connection:
        database = await connection.fetchval("SELECT current_database()")
    return {"greeting": f"Hello, {name}!", "database": database}
