"""Finds columns and labels that YAML does not read as text because they are not in quotes."""

from collections.abc import Iterator
from itertools import chain

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_TEXTS = ("column", "classes", "missing", "aliases")
"""Keys of a head that hold text only."""

_KINDS = {
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "a truth value",
    "tag:yaml.org,2002:null": "no value",
    "tag:yaml.org,2002:timestamp": "a date",
}
"""What YAML reads instead of text, by its tag."""


def describe_unquoted(document: Node | None) -> list[str]:
    """Describes the columns and labels that need quotes, with their text as written.

    Args:
        document: The root node of `params.yaml`.

    Returns:
        One line for each head that has any.
    """
    lines = []
    for head, section in _items(dict(_items(document)).get("heads")):
        texts = chain.from_iterable(
            _scalars(node) for key, node in _items(section) if key in _TEXTS
        )
        unquoted = {node.value: _KINDS[node.tag] for node in texts if node.tag in _KINDS}
        if unquoted:
            text, kind = next(iter(unquoted.items()))
            quoted = ", ".join(f"'{text}'" for text in unquoted)
            lines.append(
                f"heads.{head}: YAML reads {text} as {kind}. Expected text. Use quotes: {quoted}."
            )
    return lines


def _items(node: Node | None) -> list[tuple[str, Node]]:
    """Returns the keys and values of a mapping; empty for another node."""
    if not isinstance(node, MappingNode):
        return []
    return [(key.value, value) for key, value in node.value if isinstance(key, ScalarNode)]


def _scalars(node: Node) -> Iterator[ScalarNode]:
    """Yields a scalar, the entries of a list, or the keys and values of a mapping."""
    entries: list[Node] = [node]
    if isinstance(node, SequenceNode):
        entries = node.value
    elif isinstance(node, MappingNode):
        entries = list(chain.from_iterable(node.value))
    return (entry for entry in entries if isinstance(entry, ScalarNode) and entry.value)
