"""What weights were trained on: written beside them, and checked before they are used."""

import json

from person_attributes.data.split import Split
from person_attributes.digests import digest_path
from person_attributes.errors import SplitError
from person_attributes.files import write_json, writing
from person_attributes.workspace import Workspace


def refuse_other_split(workspace: Workspace, phase: str, drawn: Split) -> None:
    """Refuses to train on, or to score, weights that saw the rows of another split.

    A split drawn anew between two phases puts rows that were trained on among those to score.
    """
    trained = json.loads(workspace.provenance(phase).read_text(encoding="utf-8"))
    if trained["split_digest"] != drawn.digest:
        raise SplitError(
            f"{workspace.relative(workspace.provenance(phase))}: {phase} was trained under another "
            f"split. Expected digest {drawn.digest}. Received: {trained['split_digest']}. "
            "Its training rows may be among the rows to score: run dvc repro, which trains anew."
        )


def write_provenance(
    workspace: Workspace,
    phase: str,
    drawn: Split,
    image_size: int | str,
    starting_weights: str,
) -> None:
    """Writes what weights were trained on, and the digest of those that they began with."""
    with writing(workspace.provenance(phase)) as path:
        write_json(
            path,
            {
                "split_digest": drawn.digest,
                "training_rows": len(drawn.train),
                "pack_digest": digest_path(workspace.pack(image_size)),
                "starting_weights": starting_weights,
            },
        )


def read_starting_weights(workspace: Workspace, phase: str) -> str:
    """Reads the digest of the weights that the chain began with; empty where they were drawn."""
    provenance = json.loads(workspace.provenance(phase).read_text(encoding="utf-8"))
    return str(provenance["starting_weights"])
