"""The names that ``Field(alias=...)`` gives to parameters of functions."""

from __future__ import annotations

from copy import copy
from typing import Annotated, Any, get_origin

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from nexus_core.errors import ConfigurationError

_ALIASES = ("alias", "validation_alias", "serialization_alias", "alias_priority")


def alias_of(hint: Any, default: Any) -> str | None:
    """Return the name under which callers give a parameter, if a ``Field`` says another than its own.

    Raises:
        ConfigurationError: It is a path into a value, which no name is.
    """
    metadata = hint.__metadata__ if get_origin(hint) is Annotated else ()
    for field in (default, *metadata):
        if isinstance(field, FieldInfo):
            alias = field.validation_alias or field.alias
            if isinstance(alias, AliasChoices):
                alias = next((each for each in alias.choices if isinstance(each, str)), alias)  # one name, the first
            if alias is not None and not isinstance(alias, str):
                raise ConfigurationError(f"validation_alias={alias!r}: a parameter has one name, not a path.")
            if alias:
                return alias
    return None


def without_alias(hint: Any) -> Any:
    """Return a hint without aliases, which pydantic supports on members alone, and warns of elsewhere."""
    if get_origin(hint) is not Annotated:
        return hint
    metadata = [_plain(each) if isinstance(each, FieldInfo) else each for each in hint.__metadata__]
    return Annotated[(hint.__origin__, *metadata)]


def _plain(field: FieldInfo) -> FieldInfo:
    found = copy(field)
    found._attributes_set = {key: value for key, value in field._attributes_set.items() if key not in _ALIASES}
    for name in _ALIASES:
        setattr(found, name, None)
    return found
