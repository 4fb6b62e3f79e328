"""Which parameters of library nodes are settings of the author's: callers can't change them unless they are named.

A text of a caller's that becomes a path, an address, a pattern, a template, code or a credential reaches further than
the workflow's author may have meant, and so does a switch that turns a check off. Kailash's nodes declare such
parameters next to those for data, and do not tell them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kailash.nodes.base import NodeParameter  # type: ignore[import-untyped]

_LIBRARIES = frozenset({"kailash", "nexus_kailash", "kaizen", "dataflow"})
"""Packages whose nodes are used by authors who have not written them."""

_WORDS = {
    "path": "path paths file files filename dir directory folder root",
    "address": "url urls uri host hosts port ports endpoint endpoints server servers address webhook webhooks site "
    "proxy domain dsn connection database config environment image volumes network",
    "pattern": "pattern patterns regex filter filters conditions rules policy policies schema",
    "code": "template templates code expression script function callback command commands sql query queries where "
    "transformation transformations table tables column columns updates",  # in statements of SQL, as they are
    "credential": "password secret token credential credentials certificate auth username identity headers",
    "switch": "allow verify validate validation sandbox require strict ssl tls trust insecure unsafe follow force",
}
_KINDS = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_KINDS_OF_NAMES = {
    **dict.fromkeys(("api_key", "private_key", "access_key", "user", "user_context", "profile_name"), "credential"),
    **dict.fromkeys(("version_field", "id_field", "user_data"), "code"),
}


def is_library_node(node: Any) -> bool:
    """Whether a node is of Kailash's library or a companion's, not of the author's own."""
    return type(node).__module__.partition(".")[0] in _LIBRARIES


def kind_of_setting(node: Any, declared: NodeParameter) -> str | None:
    """Return what a parameter of a library node decides ("path", "address", ...), or None where it is data.

    Nodes of the author's own declare what their author wants to publish.
    """
    if not is_library_node(node):
        return None
    if declared.type is bool:  # CSVReaderNode.headers is one
        return "switch" if _KINDS.get(declared.name.partition("_")[0]) == "switch" else None
    name = declared.name.lower()
    kinds = (_KINDS.get(word) for word in name.split("_"))
    return _KINDS_OF_NAMES.get(name) or next((kind for kind in kinds if kind), None)
