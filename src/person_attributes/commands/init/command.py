"""Writes a proposal for `params.yaml`, and prints what was found."""

import shlex
from pathlib import Path

from ruamel.yaml import YAML

from person_attributes.commands.init.proposal import Proposal, propose
from person_attributes.commands.init.template import fill_template
from person_attributes.config import check_params, read_params
from person_attributes.errors import ParamsError
from person_attributes.files import writing
from person_attributes.workspace import Workspace

_HEADER = """\
# Proposed by `person-attributes init` for {table}, with the network and training of {recipe}.
# Check data, heads and split, and state registry.model_name and card.
# The file is in DVC's output format, so `dvc exp run -S` changes one line only.
"""


def init(workspace: Workspace, data: str, annotations: str, recipe: str, output: Path) -> None:
    """Proposes a parameter file for new data.

    Args:
        workspace: The project.
        data: A folder, a `.zip`, or a table beside its images.
        annotations: The name of the table in the folder or archive; empty if there is only one.
        recipe: The parameter file whose network and training are used.
        output: The file to write.

    Raises:
        ParamsError: If the output exists and is no copy of a recipe. Name another one.
        SourceError: If there are no data, or no images. Correct the path.
        AnnotationsError: If there is no table, or none of its columns can be a head.
    """
    output = workspace.root / output
    _refuse_overwriting(workspace, output)
    template = read_params(workspace.root / recipe)
    proposal = propose(data, annotations, template.data.limits)
    content = fill_template(
        (workspace.root / recipe).read_text(encoding="utf-8"),
        _HEADER.format(table=proposal.table, recipe=recipe),
        proposal.change(template, workspace.root),
    )
    check_params(YAML(typ="safe").load(content), output.name)
    with writing(output) as path:
        path.write_text(content, encoding="utf-8")
    _print(proposal)
    print(
        f"wrote {output.name}. Check data, heads and split in it, and state registry.model_name "
        "and card. Then run:"
    )
    if output != workspace.params:
        print(f"  cp {shlex.quote(str(output))} params.yaml")
    print("  person-attributes check && dvc repro")


def _refuse_overwriting(workspace: Workspace, output: Path) -> None:
    """Refuses to replace a file, unless it is a copy of a recipe."""
    recipes = [path for path in (workspace.root / "recipes").glob("*.yaml") if path != output]
    if output.exists() and output.read_bytes() not in [path.read_bytes() for path in recipes]:
        raise ParamsError(
            f"{output.name}: exists, and is no copy of a file in recipes/. Move it away, or name "
            "another file with --output."
        )


def _print(proposal: Proposal) -> None:
    location = proposal.location
    image = location.pattern or f"column {location.column!r}"
    print(
        f"{proposal.table}: {proposal.rows:,} rows. Path of an image: {image}, which names "
        f"{len(location.found)} images in {location.tried} rows. Width x height: "
        f"{proposal.width} x {proposal.height} px"
    )
    if location.others:
        print(
            f"The same rows name as many other images: {', '.join(location.others)}. Check "
            "data.image_path, or delete the images that do not belong to the table."
        )
    names = {head["column"]: name for name, head in proposal.heads.items()}
    rows = [("column", "head", "values")]
    rows += [
        (column.name or "''", names.get(column.name, "-"), column.description)
        for column in proposal.columns
    ]
    widths = [max(len(row[index]) for row in rows) for index in (0, 1)]
    for row in rows:
        print(f"  {row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}")
