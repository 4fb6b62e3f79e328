"""What a type hint is made of: for deciding who reads and writes its values, pydantic or msgspec."""

from __future__ import annotations

import dataclasses
import sys
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import msgspec
from pydantic import PlainSerializer, WrapSerializer
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERIALIZERS = (PlainSerializer, WrapSerializer)


def parts(hint: Any) -> list[Any]:
    """Return a hint and all that is in it: arguments, and the fields of dataclasses, structs, typed dictionaries.

    What is in a pydantic model is pydantic's and not looked at.

    Raises:
        NameError, TypeError: The annotation of a field can't be resolved.
    """
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [hint]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            found.append(part)  # which keeps its id from being given to another
            waiting += _inside(part)
    return found


def needs_msgspec(hint: Any) -> bool:
    """Whether something that only msgspec takes rightly is in a hint.

    That is its structs and constraints, `bytearray`, and `typing.TypedDict` before Python 3.12.
    """
    return any(_is_msgspecs(part) for part in parts(hint))


def ignored_by_msgspec(hint: Any) -> str | None:
    """Return what in a hint msgspec would pass over, for a message; None if it takes all of it."""
    inside = parts(hint)
    for part in inside:
        if is_pydantic_dataclass(part):
            return f"the checks of the pydantic dataclass {part.__name__}: make it a model or a plain dataclass"
        for each in _metadata(part):
            if _constrains(each):
                has_to_be = any(_is_msgspecs(other) and not typing.is_typeddict(other) for other in inside)
                return f"{each!r}: use {'msgspec.Meta' if has_to_be else 'typing_extensions.TypedDict'}"
    return None


def is_written_by_pydantic(hint: Any) -> bool:
    """Whether values are written otherwise than as what they are: under aliases, through serializers."""
    return any(
        is_pydantic_dataclass(part) or any(isinstance(each, _SERIALIZERS) for each in _metadata(part))
        for part in parts(hint)
    )


def is_pydantic_dataclass(hint: Any) -> bool:
    """Whether a hint is a dataclass with pydantic's checks."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint) and hasattr(hint, "__pydantic_fields__")


def _inside(hint: Any) -> Iterator[Any]:
    if (origin := get_origin(hint)) is not None:
        if origin is not Literal:
            yield origin
            yield from get_args(hint)[:1] if origin is Annotated else get_args(hint)
    elif isinstance(hint, type):
        if _has_fields(hint):
            yield from typing.get_type_hints(hint, include_extras=True).values()
    else:
        for attribute in ("__supertype__", "__value__"):  # NewType's, and that of a `type` statement
            if hasattr(hint, attribute):
                yield getattr(hint, attribute)


def _has_fields(cls: type) -> bool:
    return (
        (dataclasses.is_dataclass(cls) and not is_pydantic_dataclass(cls))
        or issubclass(cls, msgspec.Struct)
        or typing.is_typeddict(cls)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def _is_msgspecs(hint: Any) -> bool:
    if isinstance(hint, type) and get_origin(hint) is None:
        if sys.version_info < (3, 12) and type(hint).__module__ == "typing" and typing.is_typeddict(hint):
            return True
        return issubclass(hint, (msgspec.Struct, bytearray))
    return any(isinstance(each, msgspec.Meta) for each in _metadata(hint))


def _metadata(hint: Any) -> tuple[Any, ...]:
    return hint.__metadata__ if get_origin(hint) is Annotated else ()


def _constrains(metadata: Any) -> bool:
    """Whether something in `Annotated` is for pydantic and says which values fit."""
    if isinstance(metadata, FieldInfo):
        return bool(metadata.metadata or metadata.alias or metadata.validation_alias or metadata.discriminator)
    return type(metadata).__module__.partition(".")[0] in ("annotated_types", "pydantic")
