"""The arguments and options of ``nexus questions``, as typer has them. The commands are imported when they run."""

from __future__ import annotations

from typing import Annotated

import typer


def default(context: typer.Context) -> None:
    """Without a command, list."""
    if context.invoked_subcommand is None:
        from nexus_cli.commands import questions

        questions.listed(context.obj)


def listed(
    context: typer.Context,
    caller: Annotated[str, typer.Option(metavar="CALLER", help="* for the questions to all: for operators.")] = "",
    after: Annotated[str, typer.Option(metavar="NEXT", help="The next page: what the end of a page says.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", help="Maximum number of questions.")] = 100,
) -> None:
    """List open questions that you may answer, the oldest first."""
    from nexus_cli.commands import questions

    questions.listed(context.obj, caller=caller or None, after=after or None, limit=limit)


_QuestionRun = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]


def show(
    context: typer.Context,
    run_id: _QuestionRun,
    number: Annotated[
        int | None,
        typer.Argument(metavar="[NUMBER]", help="Number of the question. Default: all of the run.", min=1),
    ] = None,
) -> None:
    """Show a question: text, details, who may answer, until when, and the answer."""
    from nexus_cli.commands import questions

    questions.show(context.obj, run_id, number)


def answer(
    context: typer.Context,
    run_id: _QuestionRun,
    number: Annotated[
        int | None,
        typer.Argument(metavar="[NUMBER]", help="Number of the question. Default: the run's open one.", min=1),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(
            "--answer",
            metavar="JSON",
            help="The answer; @FILE reads a file, - reads stdin. Default on a terminal: a form.",
        ),
    ] = None,
    field: Annotated[
        list[str], typer.Option(metavar="NAME=VALUE", help="Member of an answer that is an object; may be repeated.")
    ] = [],  # noqa: B006  (typer copies it)
) -> None:
    """Answer a question. Without an answer, a form asks for it on a terminal."""
    from nexus_cli.commands import questions

    questions.answer(context.obj, run_id, number, given, [*field])
