"""What the commands write with, and how they check what was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from nexus_core.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import typer

Value = TypeVar("Value")


class CommandOutput(Protocol):
    """What the command line writes with: tables for people, JSON for programs."""

    pretty: bool

    def json(self, text: bytes) -> None:
        """Write a JSON text."""

    def document(self, members: dict[str, Any]) -> None:
        """Write an object as JSON."""

    def line(self, text: str) -> None:
        """Write a line."""

    def note(self, text: str) -> None:
        """Write a remark to standard error."""

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table."""


def output_of(context: typer.Context) -> CommandOutput:
    """Return what the command line writes with."""
    return context.obj.output  # type: ignore[no-any-return]


def checked(option: str, check: Callable[[Any], Value], value: Any) -> Value:
    """Return what a check makes of an option's value.

    Raises:
        ValidationError: The check raised `TypeError`; the message names the option.
    """
    try:
        return check(value)
    except TypeError as exc:
        raise ValidationError(f"{option}: {exc}.") from None
