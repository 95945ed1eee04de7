"""Loads starting weights from a file."""

import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy.typing as npt

from person_attributes.errors import ParamsError

_MEMBER = "model.weights.h5"
"""The file of weights inside a `.keras` archive."""

_BACKBONE = "layers/functional/"
"""Path of the backbone in a file of weights: it is the only nested network."""

_MAX_NAMED = 5
"""Maximum number of layers that a message names."""


def load_starting_weights(classifier: keras.Model, path: Path, part: str) -> int:
    """Loads the weights of an earlier training into a classifier.

    Args:
        classifier: The network whose weights are replaced.
        path: A `.weights.h5` or a `.keras` file of a classifier of this project.
        part: `all`, or `backbone` for a classifier with other heads.

    Returns:
        The number of arrays that were loaded.

    Raises:
        ParamsError: If the file cannot be read or layers do not fit: correct `model` or
            `model.starting_weights`. The message names the layers.
    """
    given = _read(path, part)
    with tempfile.TemporaryDirectory() as folder:
        # A file that Keras writes for this classifier defines the path of each layer.
        ours = Path(folder) / "ours.weights.h5"
        classifier.save_weights(ours)
        with h5py.File(ours, "r+") as file:
            wanted = _list_arrays(file, part)
            _refuse_unless_fitting(wanted, given, path, part)
            for place in wanted:
                file[place][...] = given[place].values
        classifier.load_weights(ours)
        return len(wanted)


@dataclass(frozen=True)
class _Array:
    """One array of a layer in a file of weights."""

    layer: str
    values: npt.NDArray[Any]


def _read(path: Path, part: str) -> dict[str, _Array]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                source: Any = io.BytesIO(archive.read(_MEMBER))
        else:
            source = path
        with h5py.File(source, "r") as file:
            return _list_arrays(file, part)
    except FileNotFoundError:
        raise ParamsError(
            f"params.yaml: model.starting_weights.source: {path}: no such file. Correct the path, "
            "or leave it empty to draw random weights."
        ) from None
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ParamsError(
            f"params.yaml: model.starting_weights.source: {path}: not a .weights.h5 or .keras file "
            f"({error}). Name one that Keras 3 wrote."
        ) from None


def _list_arrays(file: h5py.File, part: str) -> dict[str, _Array]:
    """Lists the arrays of a part by their path, without the state of an optimizer."""
    prefix = "layers/" if part == "all" else _BACKBONE
    arrays: dict[str, _Array] = {}

    def visit(place: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset) and place.startswith(prefix):
            layer = str(entry.parent.attrs.get("name", entry.parent.name))
            arrays[place] = _Array(layer, entry[...])

    file.visititems(visit)
    return arrays


def _refuse_unless_fitting(
    wanted: dict[str, _Array], given: dict[str, _Array], path: Path, part: str
) -> None:
    """Raises if arrays are missing, have other shapes, or belong to other heads."""
    faults: dict[str, str] = {}
    for place, ours in wanted.items():
        theirs = given.get(place)
        if theirs is None:
            faults.setdefault(ours.layer, f"{ours.layer} is not in the file")
        elif theirs.layer != ours.layer and not place.startswith(_BACKBONE):
            # Keras orders layers by kind: another head may have the same path and shape. Names in
            # the backbone are not compared: they may contain a counter of the process.
            faults.setdefault(ours.layer, f"{ours.layer} is {theirs.layer} in the file")
        elif theirs.values.shape != ours.values.shape:
            shapes = f"expects {ours.values.shape}, the file has {theirs.values.shape}"
            faults.setdefault(ours.layer, f"{ours.layer} {shapes}")
    for place in given.keys() - wanted.keys():
        faults.setdefault(given[place].layer, f"{given[place].layer} is only in the file")
    if faults:
        named = "; ".join(list(faults.values())[:_MAX_NAMED])
        more = f"; and {len(faults) - _MAX_NAMED} more" if len(faults) > _MAX_NAMED else ""
        hint = "set part to backbone for other heads, or " if part == "all" else ""
        raise ParamsError(
            f"params.yaml: model.starting_weights.source: {path}: {len(faults)} layers do not fit: "
            f"{named}{more}. Use the model and heads that the file was trained with, {hint}"
            "leave the source empty."
        )
