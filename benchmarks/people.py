"""The data of benchmarks: drawn people, as files and as packs."""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import Params, read_params
from person_attributes.data.packing import pack_images
from person_attributes.data.packs import open_pack
from person_attributes.data.sample import draw_sample
from person_attributes.data.source import open_source
from person_attributes.labels import LabelMap
from person_attributes.modeling.classifier import Normalization, build_classifier

_RECIPES = Path(__file__).parent.parent / "recipes"

RECIPE = read_params(_RECIPES / "hvc.yaml")
"""The article's network and schedule."""

BEST_RECIPE = read_params(_RECIPES / "hvc_best.yaml")
"""The network and the schedule with the best results."""


@dataclass(frozen=True)
class People:
    """Drawn people of 224 px.

    Attributes:
        folder: Contains the images and the annotations.
        table: The annotations, one row per image.
        targets: `{head: (n, classes) float32}`.
    """

    folder: Path
    table: pd.DataFrame
    targets: dict[str, npt.NDArray[np.float32]]

    def pack(self, image_size: int) -> npt.NDArray[np.uint8]:
        """Returns the pack of a size in pixels; packs the images at the first call."""
        path = self.folder / f"{image_size}.npy"
        if not path.exists():
            limits = RECIPE.data.limits
            source = open_source(self.folder, limits)
            pack_images(source, list(self.table["image_path"]), image_size, "keep", limits, path)
        return open_pack(path)


@cache
def draw_people(count: int) -> People:
    """Draws people into a temporary folder, once per process."""
    folder = Path(tempfile.mkdtemp(prefix="people-"))
    draw_sample(folder, count, 224, seed=1)
    table = pd.read_csv(folder / "hvc_annotations.csv", keep_default_na=False)
    return People(folder, table, encode(RECIPE, table))


def encode(params: Params, table: pd.DataFrame) -> dict[str, npt.NDArray[np.float32]]:
    """Makes the one-hot targets of a table of annotations."""
    records = table.rename(columns={head.column: name for name, head in params.heads.items()})
    return dict(LabelMap.declare(params.heads).encode(records))


def register_network(
    network: keras.Model, label_map: LabelMap, weights: Path, name: str, folder: Path
) -> str:
    """Registers a network in MLflow's current store.

    Args:
        network: The network.
        label_map: Heads and classes.
        weights: A file of its weights, which is logged.
        name: Name of the registered model.
        folder: A folder for temporary files.

    Returns:
        The number of the version.
    """
    import mlflow

    from person_attributes.registry.export import export_network
    from person_attributes.registry.model import log_model
    from person_attributes.serving.requests import Limits

    exported, labels = folder / "n.onnx", folder / "labels.json"
    export_network(network, exported, excluded_heads=[])
    label_map.write(labels)
    limits = Limits(rows=256, request_megabytes=128, image_megabytes=16, image_megapixels=64)
    with mlflow.start_run():
        uri = log_model(exported, labels, [weights], limits, "keep")
    return str(mlflow.register_model(uri, name).version)


def build_network(image_size: int | str, recipe: Params = RECIPE) -> keras.Model:
    """Builds the network of a recipe with random weights."""
    counts = {head: len(section.classes) for head, section in recipe.heads.items()}
    return build_classifier(
        image_size, counts, recipe.model, Normalization([128.0] * 3, [64.0] * 3)
    )
