"""The provenance of weights: written beside them, and checked before they are used."""

import json
from pathlib import Path

from person_attributes.data.split import Split
from person_attributes.digests import digest_path
from person_attributes.errors import SplitError
from person_attributes.files import write_json, writing
from person_attributes.workspace import Workspace


def refuse_other_split(workspace: Workspace, provenance: Path, split: Split) -> None:
    """Refuses weights that were trained on another split.

    If the split changed between two phases, validation rows may have been training rows before.

    Raises:
        SplitError: If the weights of a phase were trained on another split. Run `dvc repro`.
    """
    trained = json.loads(provenance.read_text(encoding="utf-8"))
    if trained["split_digest"] != split.digest:
        raise SplitError(
            f"{workspace.relative(provenance)}: {provenance.stem} was trained on another split. "
            f"Expected digest {split.digest}. Received: {trained['split_digest']}. "
            "Validation rows may be among its training rows: run dvc repro to train again."
        )


def write_provenance(
    workspace: Workspace,
    phase: str,
    split: Split,
    image_size: int | str,
    starting_weights: str,
) -> None:
    """Writes which data the weights were trained on, and the digest of the starting weights."""
    with writing(workspace.provenance(phase)) as path:
        write_json(
            path,
            {
                "split_digest": split.digest,
                "training_rows": len(split.train),
                "pack_digest": digest_path(workspace.pack(image_size)),
                "starting_weights": starting_weights,
            },
        )


def read_starting_weights(provenance: Path) -> str:
    """Reads the digest of the starting weights of the chain; empty if they were random."""
    return str(json.loads(provenance.read_text(encoding="utf-8"))["starting_weights"])
