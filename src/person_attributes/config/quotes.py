"""Finds text in `params.yaml` that YAML does not read as text because it is not in quotes."""

from collections.abc import Iterator
from itertools import chain

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_TEXTS = (
    "data.source",
    "data.annotations",
    "data.image_column",
    "data.image_path",
    "data.keep_columns",
    "split.group_by.column",
    "split.group_by.pattern",
    "registry.model_name",
    "sweep.name",
)
"""Keys of names that may look like a number or a date."""

_TEXTS_OF_A_HEAD = ("column", "classes", "missing", "aliases")

_KINDS = {
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "a truth value",
    "tag:yaml.org,2002:null": "no value",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:map": "keys and values",
}
"""What YAML reads instead of text, by its tag."""


def describe_unquoted(document: Node | None) -> list[str]:
    """Describes the columns, labels and other names that need quotes, with their text as written.

    Args:
        document: The root node of `params.yaml`.

    Returns:
        One line for each head and each other key that has any.
    """
    nodes = {where: [_find(document, where)] for where in _TEXTS}
    for head, section in _items(_find(document, "heads")):
        keys = [key for key, node in _items(section) if _may_be_text(key, node)]
        nodes[f"heads.{head}"] = [_find(section, key) for key in keys]
    lines = []
    for where, found in nodes.items():
        texts = {_write(node): node.tag for node in chain.from_iterable(map(_texts, found))}
        unquoted = {text: _KINDS[tag] for text, tag in texts.items() if text and tag in _KINDS}
        if unquoted:
            text, kind = next(iter(unquoted.items()))
            quoted = ", ".join(f"'{text}'" for text in unquoted)
            lines.append(
                f"{where}: YAML reads {text} as {kind}. Expected text. Use quotes: {quoted}."
            )
    return lines


def _may_be_text(key: str, node: Node) -> bool:
    return key in _TEXTS_OF_A_HEAD and (key == "aliases" or not isinstance(node, MappingNode))


def _find(document: Node | None, where: str) -> Node | None:
    """Returns the node at a dotted key; None if there is none."""
    node = document
    for key in where.split("."):
        node = dict(_items(node)).get(key)
    return node


def _items(node: Node | None) -> list[tuple[str, Node]]:
    """Returns the keys and values of a mapping; empty for another node."""
    if not isinstance(node, MappingNode):
        return []
    return [(key.value, value) for key, value in node.value if isinstance(key, ScalarNode)]


def _texts(node: Node | None) -> Iterator[Node]:
    """Yields a scalar unless it is null, the entries of a list, or the keys and values of aliases.

    A list may contain a mapping by mistake: YAML reads one in `[a: b]` and in `[?]`.
    """
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        entries = chain.from_iterable(node.value)
        yield from (entry for entry in entries if isinstance(entry, ScalarNode))
    elif node is not None and node.tag != "tag:yaml.org,2002:null":
        yield node


def _write(node: Node) -> str:
    """Returns the text of a node as written."""
    if isinstance(node, ScalarNode):
        return str(node.value)
    start, end = node.start_mark, node.end_mark
    text = str(start.buffer[start.pointer : end.pointer]).strip()
    return "" if "\n" in text else text
