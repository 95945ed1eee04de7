"""Weights of a file in place of random ones."""

import contextlib
import io
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras

from person_attributes.errors import ParamsError

_MEMBER = "model.weights.h5"
"""Where a `.keras` archive holds its weights."""

_NAMED = 5
"""How many layers a message names."""


def load_starting_weights(classifier: keras.Model, path: Path, part: str) -> int:
    """Loads weights that another training left.

    Args:
        classifier: Holds the weights after.
        path: A `.weights.h5` or a `.keras` file of a classifier of this project.
        part: `all` of it, or the `backbone` alone, for a classifier with other heads.

    Returns:
        How many arrays were loaded.

    Raises:
        ParamsError: If the file cannot be read, or layers do not fit; names them.
    """
    with tempfile.TemporaryDirectory() as folder, _open_weights(path) as theirs:
        # Keras' own file of these weights says where each layer has its place.
        ours_path = Path(folder) / "ours.weights.h5"
        classifier.save_weights(ours_path)
        with h5py.File(ours_path, "r+") as ours:
            wanted = {name: array for name, array in _arrays(ours) if _belongs(name, part)}
            given = {name: array for name, array in _arrays(theirs) if _belongs(name, part)}
            _refuse_unless_fitting(wanted, given, path, part)
            for name, array in wanted.items():
                array[...] = given[name][...]
        classifier.load_weights(ours_path)
        return len(wanted)


@contextlib.contextmanager
def _open_weights(path: Path) -> Iterator[h5py.File]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read(_MEMBER))
            with h5py.File(content, "r") as file:
                yield file
        else:
            with h5py.File(path, "r") as file:
                yield file
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


def _arrays(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    """Lists the arrays of the layers by their place; what an optimizer left is passed over."""
    found: list[tuple[str, h5py.Dataset]] = []
    file.visititems(
        lambda name, entry: (
            found.append((name, entry))
            if isinstance(entry, h5py.Dataset) and name.startswith("layers/")
            else None
        )
    )
    return found


def _belongs(name: str, part: str) -> bool:
    """Says whether a place lies in the part; the backbone is the one network inside the network."""
    return part == "all" or name.startswith("layers/functional/")


def _refuse_unless_fitting(
    wanted: dict[str, h5py.Dataset], given: dict[str, h5py.Dataset], path: Path, part: str
) -> None:
    faults: dict[str, str] = {}
    for name, array in wanted.items():
        layer = _name_layer(array)
        if name not in given:
            faults.setdefault(layer, f"{layer} is not in the file")
        elif given[name].shape != array.shape:
            shapes = f"expects {array.shape}, the file has {given[name].shape}"
            faults.setdefault(layer, f"{layer} {shapes}")
    for name in given.keys() - wanted.keys():
        layer = _name_layer(given[name])
        faults.setdefault(layer, f"{layer} is in the file alone")
    if faults:
        named = "; ".join(list(faults.values())[:_NAMED])
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        hint = "set part to backbone for other heads, or " if part == "all" else ""
        raise ParamsError(
            f"params.yaml: model.starting_weights.source: {path}: {len(faults)} layers do not fit: "
            f"{named}{more}. Make model and heads those that the file was trained with, {hint}"
            "leave the source empty."
        )


def _name_layer(array: h5py.Dataset) -> str:
    """Names the layer of an array, as its group is labelled."""
    return str(array.parent.attrs.get("name", array.parent.name))
