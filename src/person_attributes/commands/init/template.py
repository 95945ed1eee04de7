"""Writes a proposal into a complete parameter file, whose network and training are kept."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

_COMMENTS = {
    ("data", "keep_columns"): "extra columns to copy into the records, e.g. for a grouped split",
    ("data", "max_quarantined_share"): "largest accepted share of rows with a fault",
    ("split", "method"): "by classes of heads; or random, grouped (by a column)",
}
"""Comments that depend on the value."""

_COMMENT_COLUMN = 28
"""Layout of the files in `recipes/`."""

_MAX_LINE = 72
"""Characters of a head on one line, without the quotation marks of its labels. DVC wraps at 80."""


def fill_template(template: str, header: str, changes: Mapping[tuple[str, ...], Any]) -> str:
    """Replaces values of a parameter file, and keeps its comments.

    Args:
        template: The content of a complete parameter file.
        header: The comment at the top.
        changes: `{keys of a value: new value}`. A mapping replaces all entries of the old one.

    Returns:
        The new content, in DVC's output format.
    """
    yaml = YAML()
    content = yaml.load(template)
    content.ca.comment = None
    for keys, value in changes.items():
        section, key = content, keys[-1]
        for name in keys[:-1]:
            section = section[name]
        if isinstance(value, Mapping):
            _replace_entries(section[key], value)
        else:
            section[key] = value
        if keys in _COMMENTS:
            section.ca.items.pop(key, None)
            section.yaml_add_eol_comment(_COMMENTS[keys], key, column=_COMMENT_COLUMN)
    stream = io.StringIO()
    yaml.dump(content, stream)
    return f"{header}\n{stream.getvalue()}"


def _replace_entries(section: CommentedMap, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Replaces the entries in place, because comments belong to the section; one line for each."""
    section.clear()
    for name, entry in entries.items():
        lists = {key: CommentedSeq(value) for key, value in entry.items() if key != "column"}
        section[name] = CommentedMap({"column": entry["column"]} | lists)
        if len(f"  {name}: {entry}".replace("'", "")) <= _MAX_LINE:
            for node in (section[name], *lists.values()):
                node.fa.set_flow_style()
