"""What the stages share: how they write, how they tell MLflow, what they read again and again."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import Params
from person_attributes.data.split import Split
from person_attributes.digests import digest_path, digest_paths
from person_attributes.errors import BusyError, SplitError
from person_attributes.labels import LabelMap
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    import keras

    from person_attributes.modeling.classifier import Normalization
    from person_attributes.tracking.runs import Run


@contextlib.contextmanager
def hold_stage(workspace: Workspace, stage: str) -> Iterator[None]:
    """Keeps other processes of a stage out of this folder, such as one that a killed `dvc` left.

    Raises:
        BusyError: If there is one.
    """
    path = workspace.stage_lock(stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise BusyError(
            f"{stage}: another process runs this stage in {workspace.root}. Expected one at a "
            "time. Wait for it, or end it, and run dvc repro."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Gives a temporary path that takes the place of `path` once everything is written.

    A stage that fails leaves the output of the time before untouched. No two processes share a
    temporary path; what a killed one left behind is cleared by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".writing-*-{path.name}"):
        remove(abandoned)
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    earlier = path.with_name(f".writing-{os.getpid()}-earlier-{path.name}")
    try:
        yield temporary
        if path.is_dir():
            path.rename(earlier)  # a folder cannot take the place of one that is not empty
        temporary.replace(path)
    finally:
        remove(temporary)
        remove(earlier)


def remove(path: Path) -> None:
    """Removes a file or a folder, where there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_stage_run(
    stage: str,
    workspace: Workspace,
    params: Params,
    sections: set[str],
    reads: list[Path],
    writes: list[Path],
) -> Iterator["Run"]:
    """Opens the MLflow run of a stage.

    Args:
        stage: Its name, as `dvc.yaml` has it.
        workspace: The project.
        params: All parameters.
        sections: Which of them the run shows.
        reads: Files that the stage reads.
        writes: Files that it writes.

    Yields:
        The run; it is FINISHED or FAILED after.
    """
    from person_attributes.tracking.runs import open_run

    with open_run(
        stage,
        workspace,
        params.model_dump(include=sections),
        params.model_dump(),
        digest_paths(workspace.root, reads),
        writes,
    ) as run:
        yield run


def make_label_map(params: Params) -> LabelMap:
    """Makes the label map of the declared heads."""
    return LabelMap(
        classes={name: head.classes for name, head in params.heads.items()},
        columns={name: head.column for name, head in params.heads.items()},
    )


def name_shares(shares: dict[str, dict[str, float]], prefix: str = "") -> dict[str, float]:
    """Names shares by the number of the class: MLflow does not accept what class names hold."""
    return {
        f"{prefix}{head}_share_{number}": share
        for head, classes in shares.items()
        for number, share in enumerate(classes.values())
    }


def build_network(
    workspace: Workspace,
    params: Params,
    image_size: int | str,
    normalization: "Normalization | None" = None,
) -> "keras.Model":
    """Builds the network with random weights, normalising as `initialize` has written it."""
    from person_attributes.modeling.classifier import Normalization, build_classifier

    if normalization is None:
        content = json.loads(workspace.normalization.read_text(encoding="utf-8"))
        normalization = Normalization(**content)
    class_counts = LabelMap.read(workspace.label_map).class_counts
    return build_classifier(image_size, class_counts, params.model, normalization)


def load_trained_network(workspace: Workspace, params: Params) -> "keras.Model":
    """Loads the network of `evaluation.phase`."""
    phase = params.evaluation.phase
    classifier = build_network(workspace, params, params.phases[phase].image_size)
    classifier.load_weights(workspace.weights(phase))
    return classifier


def load_scored_network(workspace: Workspace, params: Params) -> "keras.Model":
    """Loads the network that is scored: of `evaluation.phase`, with flips if asked."""
    from person_attributes.modeling.classifier import average_flips

    classifier = load_trained_network(workspace, params)
    return average_flips(classifier) if params.evaluation.flips else classifier


def read_targets(workspace: Workspace) -> dict[str, npt.NDArray[np.float32]]:
    """Reads the one-hot columns of all records as `{head: (n, classes) float32}`."""
    one_hot = pd.read_csv(workspace.one_hot, index_col="row").to_numpy(np.float32)
    class_counts = LabelMap.read(workspace.label_map).class_counts
    parts = np.split(one_hot, np.cumsum(list(class_counts.values()))[:-1], axis=1)
    return dict(zip(class_counts, parts, strict=True))


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


def write_json(path: Path, content: Any) -> None:
    """Writes JSON for people."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
