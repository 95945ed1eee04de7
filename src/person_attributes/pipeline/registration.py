"""Exports, checks and registers a network that the registry lacks, for the stage `register`."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from person_attributes.config import Params
from person_attributes.data.dataset import Dataset
from person_attributes.data.source import open_source
from person_attributes.digests import digest_path
from person_attributes.evaluation.calibration import scale_heads
from person_attributes.evaluation.gate import Condition, check_claims
from person_attributes.evaluation.predictions import Predictions
from person_attributes.evaluation.scores import read_heads
from person_attributes.evaluation.slices import read_slices
from person_attributes.labels import LabelMap
from person_attributes.modeling.classifier import scale_temperatures
from person_attributes.pipeline.content import list_content
from person_attributes.pipeline.members import load_scored_network
from person_attributes.pipeline.provenance import read_starting_weights
from person_attributes.registry.export import check_export, export_network
from person_attributes.registry.model import check_served, log_model, read_limits
from person_attributes.registry.promotion import (
    Registered,
    Registry,
    check_against_champion,
    open_registry,
)
from person_attributes.registry.quantization import check_quantized, quantize_network
from person_attributes.reporting.model_card import Facts, render_card, write_card
from person_attributes.tracking.stages import open_stage_run
from person_attributes.workspace import Workspace


def register_network(workspace: Workspace, params: Params, content_digest: str) -> None:
    """Exports, checks and registers the network, and applies the gate."""
    sections, reads = {"registry", "card"}, _list_inputs(workspace, params)
    with (
        open_stage_run("register", workspace, params, sections, reads, writes=[]) as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        for path in (workspace.predictions, workspace.params):
            run.log_file(path)  # for comparisons with other versions
        challenger = _prepare(workspace, params, Path(folder))
        with open_registry(workspace, params.registry) as models:
            number = _add_version(workspace, params, models, challenger, content_digest)
            registered = _apply_gate(workspace, params, models, challenger, number)
        run.log_results(challenger.metrics)
        run.set_tags({"registered_version": number, "gate.reason": registered.reason})
        print(
            f"register: {params.registry.model_name} version {number} "
            f"{'is' if registered.is_champion else 'is not'} {params.registry.alias}: "
            f"{registered.reason}"
        )


@dataclass(frozen=True)
class _Challenger:
    """A network to register, with the inputs of the gate.

    Attributes:
        dataset: The records, split and images.
        metrics: The metrics of the evaluation.
        predictions: The uncalibrated predictions of the validation rows.
        labels: The served heads and their classes.
        exported: The exported network.
        card: The model card as Markdown.
    """

    dataset: Dataset
    metrics: dict[str, float]
    predictions: Predictions
    labels: LabelMap
    exported: "_Exported"
    card: str


def _prepare(workspace: Workspace, params: Params, folder: Path) -> _Challenger:
    """Exports the evaluated network into a folder, and renders its model card."""
    dataset = Dataset(workspace, params.evaluated_image_size)
    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    temperatures = json.loads(workspace.temperatures.read_text(encoding="utf-8"))
    predictions = Predictions.read(workspace.predictions)
    labels = dataset.label_map.without(params.registry.serving.excluded_heads)
    classifier = scale_temperatures(load_scored_network(workspace, params), temperatures)
    expected = _calibrate(predictions, temperatures, labels.heads)
    return _Challenger(
        dataset,
        metrics,
        predictions,
        labels,
        _export(dataset, params, classifier, expected, folder),
        _write_card(dataset, params, classifier, metrics),
    )


def _add_version(
    workspace: Workspace,
    params: Params,
    models: Registry,
    challenger: _Challenger,
    content_digest: str,
) -> str:
    """Registers a version unless the registry has one of this content; returns its number."""
    with models.lock():  # only one of two concurrent processes registers
        version = models.find_content(content_digest)
        if version is None:
            version = models.add(_log_model(workspace, params, challenger), content_digest)
    return str(version.version)


def _apply_gate(
    workspace: Workspace,
    params: Params,
    models: Registry,
    challenger: _Challenger,
    number: str,
) -> Registered:
    """Applies the gate to a version, and sets the alias if every condition holds."""
    predictions, metrics = challenger.predictions, challenger.metrics
    split = challenger.dataset.split
    sound = [
        *challenger.exported.conditions,
        _check_served(workspace, params, number, challenger),
        *check_claims(predictions, metrics, split.train, params.registry.gate),
    ]
    with models.lock():
        registered = models.confirm(number)
        if registered is None:
            models.describe(number, metrics, split.validation_digest, challenger.card)
            progress = check_against_champion(models, predictions, workspace, params)
            registered = models.settle(number, sound, progress)
    return registered


def _list_inputs(workspace: Workspace, params: Params) -> list[Path]:
    return [
        workspace.root / params.data.source,
        workspace.pack(params.evaluated_image_size),
        *list_content(workspace),
    ]


def _log_model(workspace: Workspace, params: Params, challenger: _Challenger) -> str:
    """Logs the servable model with its card; returns its URI."""
    network = challenger.exported.network
    card = write_card(challenger.card, network.parent, params.report.colour)
    label_map = network.with_name("label_map.json")
    challenger.labels.write(label_map)
    weights = [workspace.selected_weights(phase) for phase in params.evaluation.phases]
    return log_model(
        network,
        label_map,
        [*card, *weights, workspace.normalization, workspace.params],
        read_limits(params),
        params.data.black_bars,
    )


def _check_served(
    workspace: Workspace, params: Params, number: str, challenger: _Challenger
) -> Condition:
    """Compares the registered model's answers on original image files with the evaluation."""
    section, predictions = params.registry, challenger.exported.predictions
    source = open_source(workspace.root / params.data.source, params.data.limits)
    rows = list(predictions.rows[: section.served_rows])
    names = challenger.dataset.records["image"].loc[rows]
    return check_served(
        f"models:/{section.model_name}/{number}",
        [source.read(name) for name in names],
        {head: answers[: section.served_rows] for head, answers in predictions.y_prob.items()},
        challenger.labels,
        section.max_export_difference,
    )


@dataclass(frozen=True)
class _Exported:
    """The exported network.

    Attributes:
        network: The `.onnx` file.
        predictions: Its predictions of the validation rows.
        conditions: The conditions on the export.
    """

    network: Path
    predictions: Predictions
    conditions: list[Condition]


def _export(
    dataset: Dataset,
    params: Params,
    classifier: keras.Model,
    predictions: Predictions,
    folder: Path,
) -> _Exported:
    """Exports the served heads, in 8 bits if `int8` is set and the gate's conditions hold."""
    section, network = params.registry, folder / "network.onnx"
    images, positions = dataset.images, dataset.find(tuple(predictions.rows.tolist()))
    export_network(classifier, network, section.serving.excluded_heads)
    export = check_export(
        network, images, positions, predictions.y_prob, section.max_export_difference
    )
    if not section.serving.int8:
        return _Exported(network, predictions, [export])

    quantized = folder / "network.int8.onnx"
    rows = dataset.split.train[: section.serving.int8_rows]
    quantize_network(network, images[dataset.find(rows)], quantized)
    conditions, quantized_predictions = check_quantized(
        quantized, images, positions, predictions, params
    )
    failed = [condition for condition in conditions if not condition.holds]
    if failed:
        print(f"register: not in 8 bits: {str(failed[0]).removeprefix('8 bits: ')}")
        return _Exported(network, predictions, [export])
    quantized.replace(network)
    return _Exported(network, quantized_predictions, [export, *conditions])


def _calibrate(
    predictions: Predictions, temperatures: dict[str, float], heads: Sequence[str]
) -> Predictions:
    """Returns the calibrated predictions of some heads."""
    y_prob = scale_heads(predictions.y_prob, temperatures)
    return replace(
        predictions,
        y_true={head: predictions.y_true[head] for head in heads},
        y_prob={head: y_prob[head] for head in heads},
    )


def _write_card(
    dataset: Dataset, params: Params, classifier: keras.Model, metrics: dict[str, float]
) -> str:
    workspace, split, phases = dataset.workspace, dataset.split, params.evaluation.phases
    facts = Facts(
        name=params.registry.model_name,
        backbone=params.model.backbone,
        networks=len(phases),
        starting_weights=read_starting_weights(workspace.selected_provenance(phases[0])),
        image_size=params.evaluated_image_size,
        phases=len(params.chain()),
        weights=classifier.count_params(),
        source=Path(params.data.source).name,
        records=len(dataset.records),
        records_digest=digest_path(workspace.records),
        parts={name: len(rows) for name, rows in split.parts.items()},
        split_digest=split.digest,
        confidence=params.evaluation.confidence,
    )
    heads, slices = read_heads(workspace.heads), read_slices(workspace.slices)
    return render_card(facts, params.card, metrics, heads, slices)
