"""A bare typer application, for the time that ``--help`` takes."""

from __future__ import annotations

import typer

app = typer.Typer(help="A command line with three commands.")


@app.command()
def serve(target: str) -> None:
    """Serve an application."""


@app.command()
def execute(name: str, data: str = "{}") -> None:
    """Execute a workflow."""


@app.command("list")
def list_workflows() -> None:
    """List workflows."""


if __name__ == "__main__":
    app()
