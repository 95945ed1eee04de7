"""The stage `register`, the commands on registered models, and a summary."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from person_attributes.config import Params
from person_attributes.data.annotations import read_records
from person_attributes.data.archive import open_source
from person_attributes.data.packs import open_pack
from person_attributes.data.split import Split, find_positions
from person_attributes.digests import digest_path
from person_attributes.errors import ComparisonError, OtherRowsError, RegistryError
from person_attributes.labels import LabelMap
from person_attributes.stages.wiring import (
    load_scored_network,
    open_stage_run,
    read_starting_weights,
)
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    import keras

    from person_attributes.evaluation.gate import Condition
    from person_attributes.evaluation.predictions import Predictions
    from person_attributes.promotion import Registry
    from person_attributes.serving.requests import Limits


def register(workspace: Workspace, params: Params) -> None:
    """Exports, checks, logs and registers the model; moves the alias where the gate holds."""
    from person_attributes import registry
    from person_attributes.evaluation.gate import check_claims
    from person_attributes.evaluation.model_card import render_card_page
    from person_attributes.evaluation.predictions import Predictions
    from person_attributes.modeling.classifier import scale_temperatures

    phase, section = params.evaluation.phase, params.registry
    reads = [
        workspace.root / params.data.source,
        workspace.weights(phase),
        workspace.provenance(phase),
        workspace.normalization,
        workspace.label_map,
        workspace.pack(params.phases[phase].image_size),
        workspace.records,
        workspace.split,
        workspace.metrics,
        workspace.heads,
        workspace.predictions,
        workspace.slices,
        workspace.temperatures,
    ]
    with open_stage_run(
        "register", workspace, params, {"registry", "card"}, reads, writes=[]
    ) as run:
        drawn = Split.read(workspace.split)
        metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
        temperatures = json.loads(workspace.temperatures.read_text(encoding="utf-8"))
        classifier = scale_temperatures(load_scored_network(workspace, params), temperatures)
        predictions = Predictions.read(workspace.predictions)
        records = read_records(workspace.records)
        card = _write_card(workspace, params, drawn, classifier, metrics)
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "model_card.html"
            page.write_text(render_card_page(card, params.report.colour), encoding="utf-8")
            text = page.with_suffix(".md")
            text.write_text(card, encoding="utf-8")
            labels = LabelMap.read(workspace.label_map).without(section.serving.heads_off)
            label_map = Path(folder) / "label_map.json"
            labels.write(label_map)
            expected = _calibrate(predictions, temperatures, labels.heads)
            exported = _export(
                workspace, params, classifier, records, drawn, expected, Path(folder)
            )
            version = registry.log_model(
                exported.network,
                label_map,
                workspace.weights(phase),
                [text, page, workspace.normalization, workspace.params],
                _read_limits(params),
                params.data.black_bars,
                section.model_name,
            )
        for path in (workspace.predictions, workspace.params):
            run.log_file(path)  # for comparisons with other versions
        count = section.served_rows
        source = open_source(workspace.root / params.data.source, params.data.limits)
        served = registry.check_served(
            f"models:/{section.model_name}/{version}",
            [source.read(name) for name in records["image"].loc[list(predictions.rows[:count])]],
            {head: answers[:count] for head, answers in exported.predictions.y_prob.items()},
            labels,
            section.max_export_difference,
        )
        sound = [
            *exported.conditions,
            served,
            *check_claims(predictions, metrics, drawn.train, section.gate),
        ]
        with _open_registry(workspace, params) as models, models.hold():
            models.describe(version, metrics, drawn.validation_digest, card)
            champion = models.find_champion()
            number = champion.version if champion else None
            progress = _hold_against(number, predictions, workspace, params)
            registered = models.settle(version, sound, progress)
        run.log_results(metrics)
        run.set_tags({"registered_version": version, "gate.reason": registered.reason})
        print(
            f"register: {section.model_name} version {version} "
            f"{'is' if registered.is_champion else 'is not'} {section.alias}: {registered.reason}"
        )


@dataclass(frozen=True)
class _Exported:
    """What is served: the network, what it says of validation rows, and the conditions on it."""

    network: Path
    predictions: "Predictions"
    conditions: list["Condition"]


def _export(
    workspace: Workspace,
    params: Params,
    classifier: "keras.Model",
    records: pd.DataFrame,
    drawn: Split,
    predictions: "Predictions",
    folder: Path,
) -> _Exported:
    """Exports the heads that are served, in 8 bits where that is asked for and the gate lets it."""
    from person_attributes import registry

    section, network = params.registry, folder / "network.onnx"
    images = open_pack(workspace.pack(params.phases[params.evaluation.phase].image_size))
    positions = find_positions(records, predictions.rows.tolist())
    registry.export_network(classifier, network, section.serving.heads_off)
    export = registry.check_export(
        network, images, positions, predictions.y_prob, section.max_export_difference
    )
    if not section.serving.int8:
        return _Exported(network, predictions, [export])

    from person_attributes.quantization import check_quantized, quantize_network

    rounded = folder / "network.int8.onnx"
    rows = list(drawn.train)[: section.serving.int8_rows]
    quantize_network(network, images[find_positions(records, rows)], rounded)
    conditions, said = check_quantized(
        rounded, images, positions, predictions, section.gate, params.evaluation, params.seed
    )
    failed = [one for one in conditions if not one.holds]
    if failed:
        print(f"register: not in 8 bits: {str(failed[0]).removeprefix('8 bits: ')}")
        return _Exported(network, predictions, [export])
    rounded.replace(network)
    return _Exported(network, said, [export, *conditions])


def _calibrate(
    predictions: "Predictions", temperatures: dict[str, float], heads: Sequence[str]
) -> "Predictions":
    """Gives what the calibrated network says, of some heads."""
    from person_attributes.evaluation.calibration import scale_heads

    y_prob = scale_heads(predictions.y_prob, temperatures)
    return replace(
        predictions,
        y_true={head: predictions.y_true[head] for head in heads},
        y_prob={head: y_prob[head] for head in heads},
    )


def promote(workspace: Workspace, params: Params, number: str, because: str) -> None:
    """Makes a version champion where the gate holds, or because somebody says why.

    Args:
        workspace: The project.
        params: The gate.
        number: Of the version.
        because: A reason that overrules the gate; empty for none.

    Raises:
        RegistryError: If a condition does not hold, and no reason was given.
    """
    from person_attributes.comparing import find_evaluated
    from person_attributes.evaluation.gate import format_conditions

    name = params.registry.model_name
    with _open_registry(workspace, params) as models, models.hold():
        version, champion = models.find(number), models.find_champion()
        if champion and champion.version == version.version:
            print(f"{name} version {number} is {params.registry.alias} already")
            return
        if because:
            models.crown(number, f"by hand: {because}")
            print(f"{name} version {number} is {params.registry.alias} by hand: {because}")
            return
        if not models.is_sound(version):
            raise RegistryError(
                f"{name} {number}: {version.tags.get('gate.reason', 'its checks never ended')}. "
                "Register it anew, or give a reason with --because."
            )
        evaluated = find_evaluated(workspace, f"models:/{name}/{number}")
        before = champion.version if champion else None
        progress = _hold_against(before, evaluated.predictions, workspace, params)
        failed = [condition for condition in progress if not condition.holds]
        if failed:
            print(format_conditions(progress))
            raise RegistryError(
                f"{name} {number}: {failed[0]}. Give a reason with --because to promote it all the "
                "same."
            )
        models.crown(number, "every condition of the gate holds")
        print(f"{name} version {number} is {params.registry.alias}: every condition holds")


def rollback(workspace: Workspace, params: Params) -> None:
    """Makes the champion before the present one champion again."""
    with _open_registry(workspace, params) as models, models.hold():
        back = models.roll_back()
    print(
        f"{params.registry.model_name} version {back.version} is {params.registry.alias}: "
        f"{back.reason}"
    )


def models(workspace: Workspace, params: Params) -> None:
    """Lists the registered versions: how good, who is champion since when, and by which gate."""
    with _open_registry(workspace, params) as registry:
        print(registry.format_versions())


def summarize(workspace: Workspace, params: Params) -> None:
    """Prints the last evaluation, the champion, and what to type next."""
    from person_attributes.evaluation import report

    heads = pd.read_csv(workspace.heads, index_col="head")
    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    name, alias = params.registry.model_name, params.registry.alias
    with _open_registry(workspace, params) as models:
        champion = models.find_champion()
    print(f"\n{report.format_table(heads, metrics)}\n")
    print(f"report            {workspace.relative(workspace.evaluation_page)}")
    if champion:
        print(f"registered model  {name} version {champion.version}, alias {alias}")
    print("\ncompare runs      MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1")
    print(f"serve the model   mlflow models serve -m models:/{name}@{alias} --env-manager uv")


@contextlib.contextmanager
def _open_registry(workspace: Workspace, params: Params) -> Iterator["Registry"]:
    """Opens the registry; what MLflow raises in the block becomes one line."""
    from person_attributes.promotion import Registry
    from person_attributes.tracking.runs import connect, telling_in_one_line

    with telling_in_one_line():
        yield Registry(connect(workspace), workspace, params.registry)


def _hold_against(
    champion: str | None,
    predictions: "Predictions",
    workspace: Workspace,
    params: Params,
) -> list["Condition"]:
    """Gives the conditions against the champion's version; none where there is no champion."""
    from person_attributes.comparing import find_evaluated
    from person_attributes.evaluation.gate import Condition, check_progress

    if champion is None:
        return []
    section = params.registry
    try:
        before = find_evaluated(workspace, f"models:/{section.model_name}/{champion}")
        return check_progress(
            before.predictions, predictions, section.gate, params.evaluation, params.seed
        )
    except OtherRowsError as error:
        return [
            Condition(
                f"rows of version {champion}",
                "the same, or registry.gate.when_rows_differ promote",
                str(error).partition(".")[0],
                section.gate.when_rows_differ == "promote",
            )
        ]
    except ComparisonError as error:
        return [Condition(f"evaluation of version {champion}", "at hand", str(error), holds=False)]


def _read_limits(params: Params) -> "Limits":
    from person_attributes.serving.requests import Limits

    section = params.registry.serving
    return Limits(
        rows=section.max_rows,
        request_megabytes=section.max_request_megabytes,
        image_megabytes=section.max_image_megabytes,
        image_megapixels=params.data.limits.image_megapixels,
    )


def _write_card(
    workspace: Workspace,
    params: Params,
    drawn: Split,
    classifier: "keras.Model",
    metrics: dict[str, float],
) -> str:
    from person_attributes.evaluation.model_card import Facts, render_card

    phase = params.evaluation.phase
    records = digest_path(workspace.records)
    facts = Facts(
        name=params.registry.model_name,
        backbone=params.model.backbone,
        starting_weights=read_starting_weights(workspace, phase),
        image_size=params.phases[phase].image_size,
        phases=len(params.chain()),
        weights=classifier.count_params(),
        source=Path(params.data.source).name,
        records=len(read_records(workspace.records)),
        records_digest=records,
        parts={name: len(rows) for name, rows in drawn.parts.items()},
        split_digest=drawn.digest,
        confidence=params.evaluation.confidence,
    )
    heads = pd.read_csv(workspace.heads, index_col="head")
    slices = pd.read_csv(workspace.slices, keep_default_na=False, na_values=[""])
    return render_card(facts, params.card, metrics, heads, slices)
