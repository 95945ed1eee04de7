"""The stage `initialize`: writes the normalization and the initial weights."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from person_attributes.config import INITIAL, Params
from person_attributes.data.dataset import Dataset
from person_attributes.data.packs import channel_statistics
from person_attributes.digests import digest_path
from person_attributes.drawing.network import draw_network
from person_attributes.files import write_json, writing
from person_attributes.modeling.classifier import Normalization, make_normalization
from person_attributes.modeling.starting_weights import load_starting_weights
from person_attributes.pipeline.networks import build_network
from person_attributes.pipeline.provenance import write_provenance
from person_attributes.registry.weights import fetch_weights
from person_attributes.tracking.runs import Run
from person_attributes.tracking.stages import open_stage_run
from person_attributes.workspace import Workspace


def initialize(workspace: Workspace, params: Params) -> None:
    """Writes the normalization and the initial weights: random, or the given starting weights."""
    image_size = params.data.image_sizes[0]
    writes = [
        workspace.weights(INITIAL),
        workspace.provenance(INITIAL),
        workspace.normalization,
        workspace.network_picture,
    ]
    reads = [
        workspace.pack(image_size),
        workspace.records,
        workspace.split,
        workspace.label_map,
    ]
    with open_stage_run("initialize", workspace, params, {"seed", "model"}, reads, writes) as run:
        dataset = Dataset(workspace, image_size)
        normalization = make_normalization(
            params.model.normalization,
            lambda: channel_statistics(dataset.images, dataset.find(dataset.split.train)),
        )
        keras.utils.set_random_seed(params.seed)
        classifier = build_network(workspace, params, image_size, normalization)
        starting_weights = _load_starting_weights(workspace, params, classifier)
        with writing(workspace.normalization) as path:
            write_json(path, normalization.to_dict())
        with writing(workspace.weights(INITIAL)) as path:
            classifier.save_weights(path)
        write_provenance(workspace, INITIAL, dataset.split, image_size, starting_weights)
        with writing(workspace.network_picture) as path:
            path.write_bytes(draw_network(classifier))
        run.set_tags({"starting_weights": starting_weights})
        run.log_file(workspace.normalization)
        run.log_file(workspace.network_picture)
        _report(classifier, normalization, run)


def _report(classifier: keras.Model, normalization: Normalization, run: Run) -> None:
    """Logs and prints the number of weights; logs the channel means."""
    trainable = sum(int(np.prod(weight.shape)) for weight in classifier.trainable_weights)
    run.log_metrics({"weights": classifier.count_params(), "trainable_weights": trainable})
    means = zip("rgb", normalization.mean, strict=True)
    run.log_metrics({f"mean_{channel}": value for channel, value in means})
    print(f"initialize: {classifier.count_params():,} weights, {trainable:,} of them trainable")


def _load_starting_weights(workspace: Workspace, params: Params, classifier: keras.Model) -> str:
    """Loads the weights that `model.starting_weights` names.

    Returns:
        Their digest; empty if none are named.
    """
    section = params.model.starting_weights
    if not section.source:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        file = workspace.home / section.source
        path = fetch_weights(section.source, Path(folder)) if section.is_model else file
        arrays = load_starting_weights(classifier, path, section.part)
        digest = digest_path(path)
    print(
        f"initialize: loaded {arrays} arrays from {section.source}. If these weights were trained "
        "on validation or test rows of this split, the metrics are too good."
    )
    return digest
