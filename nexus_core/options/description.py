"""What the options of a settings model are: for ``nexus plugins info``."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from nexus_core.options.settings import ENV_PREFIX

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from nexus_core.options.settings import PluginSettings


def described_options(model: type[PluginSettings]) -> list[dict[str, Any]]:
    """Return each option's ``name``, ``variables`` of the environment, ``type``, ``default`` and ``description``.

    All are values of JSON. An option without a default, which has to be set, has no ``default`` here either.

    Args:
        model: The settings model.
    """
    return [_described(name, field) for name, field in model.model_fields.items()]


def _described(name: str, field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    other = extra.get("environment") if isinstance(extra, dict) else None
    found = {
        "name": name,
        "variables": [ENV_PREFIX + name.upper(), *([other] if isinstance(other, str) else [])],
        "type": _type(field.annotation),
        "description": " ".join((field.description or "").split()),
    }
    if not field.is_required():
        default = field.get_default(call_default_factory=True, validated_data={})
        try:
            found["default"] = to_jsonable_python(default, fallback=_name)
        except ValueError:  # such as bytes that are no text
            found["default"] = _name(default)
    return found


def _type(annotation: Any) -> str:
    """Return a type as a hint writes it, without what pydantic checks of its values."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(map(_type, arguments))
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if annotation is NoneType:
        return "None"
    if annotation in (SecretStr, SecretBytes):
        return "secret"
    if origin is None:
        return _name(annotation)
    inner = ", ".join("..." if each is ... else _type(each) for each in arguments if not isinstance(each, list))
    return f"{_name(origin)}[{inner}]" if inner and _name(origin) != "Callable" else _name(origin)


def _name(value: Any) -> str:
    return str(getattr(value, "__name__", None) or type(value).__name__)
