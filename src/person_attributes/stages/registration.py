"""The stage `register`, the commands on registered models, and a summary."""

import contextlib
import json
import os
import shlex
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
from person_attributes.digests import combine, digest_path, digest_paths, read_stage
from person_attributes.errors import ComparisonError, OtherRowsError, RegistryError
from person_attributes.keras_import import import_keras
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
    from person_attributes.promotion import Registered, Registry
    from person_attributes.serving.requests import Limits


def register(workspace: Workspace, params: Params) -> None:
    """Exports, checks, logs and registers the model; moves the alias where the gate holds.

    A store holds one version of the same content. Where it is there and the gate has decided on it,
    this only says so. Where its checks were interrupted, they run again.
    """
    content_digest = _digest_content(workspace, params)
    with _open_registry(workspace, params) as models:
        version = models.find_content(content_digest)
        if version and models.is_settled(version):
            reason, verdict = models.reason_of(version), models.word_verdict(version)
            _report_registered(workspace, params, str(version.version), reason, verdict)
            return
    import_keras()
    _register(workspace, params, content_digest)


def _digest_content(workspace: Workspace, params: Params) -> str:
    """Digests what a version is made of: files, and parameters and code as `dvc.yaml` lists them.

    Images are not read again: the predictions depend on them.
    """
    from person_attributes.tracking.executions import flatten

    declared = read_stage(workspace.dvc_yaml, "register")
    code = [workspace.root / name for name in declared["deps"] if name.startswith("src/")]
    files = digest_paths(workspace.root, [*_list_content(workspace, params), *code])
    used = {
        key: value
        for key, value in flatten(params.model_dump(mode="json"))
        if any(f"{key}.".startswith(f"{name}.") for name in declared["params"])
    }
    return combine({"files": files, "params": used})


def _report_registered(
    workspace: Workspace, params: Params, number: str, reason: str, verdict: str
) -> None:
    """Says which version has this content, also on the run of the execution."""
    from person_attributes.tracking.runs import log_up_to_date

    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    tags = {"registered_version": number, "gate.reason": reason}
    reads = _list_content(workspace, params)
    log_up_to_date(workspace, params.model_dump(), reads, metrics, tags)
    print(
        f"register: {params.registry.model_name} version {number} has this content already and "
        f"{verdict}"
    )


def _register(workspace: Workspace, params: Params, content_digest: str) -> None:
    """Exports and checks the network, registers it, and lets the gate decide."""
    sections, reads = {"registry", "card"}, _list_inputs(workspace, params)
    with (
        open_stage_run("register", workspace, params, sections, reads, writes=[]) as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        for path in (workspace.predictions, workspace.params):
            run.log_file(path)  # for comparisons with other versions
        challenger = _prepare(workspace, params, Path(folder))
        with _open_registry(workspace, params) as models:
            number = _add_version(workspace, params, models, challenger, content_digest)
            registered = _decide(workspace, params, models, challenger, number)
        run.log_results(challenger.metrics)
        run.set_tags({"registered_version": number, "gate.reason": registered.reason})
        print(
            f"register: {params.registry.model_name} version {number} "
            f"{'is' if registered.is_champion else 'is not'} {params.registry.alias}: "
            f"{registered.reason}"
        )


@dataclass(frozen=True)
class _Challenger:
    """A network to register, and what the gate judges it by.

    Attributes:
        drawn: The split.
        metrics: Of the evaluation.
        predictions: Of the validation rows, as the network gives them.
        labels: Heads that are served, and their classes.
        exported: What is served.
        card: The model card, as Markdown.
    """

    drawn: Split
    metrics: dict[str, float]
    predictions: "Predictions"
    labels: LabelMap
    exported: "_Exported"
    card: str


def _prepare(workspace: Workspace, params: Params, folder: Path) -> _Challenger:
    """Exports the network of `evaluation.phase` into a folder, and writes its card."""
    from person_attributes.evaluation.predictions import Predictions
    from person_attributes.modeling.classifier import scale_temperatures

    drawn = Split.read(workspace.split)
    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    temperatures = json.loads(workspace.temperatures.read_text(encoding="utf-8"))
    predictions = Predictions.read(workspace.predictions)
    labels = LabelMap.read(workspace.label_map).without(params.registry.serving.heads_off)
    classifier = scale_temperatures(load_scored_network(workspace, params), temperatures)
    expected = _calibrate(predictions, temperatures, labels.heads)
    return _Challenger(
        drawn,
        metrics,
        predictions,
        labels,
        _export(workspace, params, classifier, drawn, expected, folder),
        _write_card(workspace, params, drawn, classifier, metrics),
    )


def _add_version(
    workspace: Workspace,
    params: Params,
    models: "Registry",
    challenger: _Challenger,
    content_digest: str,
) -> str:
    """Registers a version, unless the store has one of this content, and gives its number."""
    with models.hold():  # of two processes at once, one registers
        version = models.find_content(content_digest)
        if version is None:
            version = models.add(_log_model(workspace, params, challenger), content_digest)
    return str(version.version)


def _decide(
    workspace: Workspace,
    params: Params,
    models: "Registry",
    challenger: _Challenger,
    number: str,
) -> "Registered":
    """Lets the gate decide on a version."""
    from person_attributes.evaluation.gate import check_claims

    predictions, metrics, drawn = challenger.predictions, challenger.metrics, challenger.drawn
    sound = [
        *challenger.exported.conditions,
        _check_served(workspace, params, number, challenger),
        *check_claims(predictions, metrics, drawn.train, params.registry.gate),
    ]
    with models.hold():
        registered = models.confirm(number)
        if registered is None:
            models.describe(number, metrics, drawn.validation_digest, challenger.card)
            progress = _check_progress(models, predictions, workspace, params)
            registered = models.settle(number, sound, progress)
    return registered


def _list_inputs(workspace: Workspace, params: Params) -> list[Path]:
    phase = params.evaluation.phase
    return [
        workspace.root / params.data.source,
        workspace.pack(params.phases[phase].image_size),
        *_list_content(workspace, params),
    ]


def _list_content(workspace: Workspace, params: Params) -> list[Path]:
    """Lists the files that a version is made of."""
    phase = params.evaluation.phase
    return [
        workspace.weights(phase),
        workspace.provenance(phase),
        workspace.normalization,
        workspace.temperatures,
        workspace.label_map,
        workspace.records,
        workspace.split,
        workspace.metrics,
        workspace.heads,
        workspace.slices,
        workspace.predictions,
    ]


def _log_model(workspace: Workspace, params: Params, challenger: _Challenger) -> str:
    """Logs the servable model with its card, and gives its URI."""
    from person_attributes import registry
    from person_attributes.evaluation.model_card import render_card_page

    network = challenger.exported.network
    page, text = network.with_name("model_card.html"), network.with_name("model_card.md")
    page.write_text(render_card_page(challenger.card, params.report.colour), encoding="utf-8")
    text.write_text(challenger.card, encoding="utf-8")
    label_map = network.with_name("label_map.json")
    challenger.labels.write(label_map)
    return registry.log_model(
        network,
        label_map,
        workspace.weights(params.evaluation.phase),
        [text, page, workspace.normalization, workspace.params],
        _read_limits(params),
        params.data.black_bars,
    )


def _check_served(
    workspace: Workspace, params: Params, number: str, challenger: _Challenger
) -> "Condition":
    """Asks the registered model about original images, as its users will."""
    from person_attributes import registry

    section, predictions = params.registry, challenger.exported.predictions
    source = open_source(workspace.root / params.data.source, params.data.limits)
    rows = list(predictions.rows[: section.served_rows])
    names = read_records(workspace.records)["image"].loc[rows]
    return registry.check_served(
        f"models:/{section.model_name}/{number}",
        [source.read(name) for name in names],
        {head: answers[: section.served_rows] for head, answers in predictions.y_prob.items()},
        challenger.labels,
        section.max_export_difference,
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
    drawn: Split,
    predictions: "Predictions",
    folder: Path,
) -> _Exported:
    """Exports the heads that are served, in 8 bits where that is asked for and the gate lets it."""
    from person_attributes import registry

    section, network = params.registry, folder / "network.onnx"
    images = open_pack(workspace.pack(params.phases[params.evaluation.phase].image_size))
    records = read_records(workspace.records)
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
                f"{name} {number}: {models.reason_of(version)}. Give a reason with --because to "
                "promote it all the same."
            )
        evaluated = find_evaluated(workspace, f"models:/{name}/{number}")
        progress = _check_progress(models, evaluated.predictions, workspace, params)
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


def require_champion(workspace: Workspace, params: Params) -> str:
    """Gives the URI of the champion.

    Raises:
        RegistryError: If there is none: says how to get one.
    """
    with _open_registry(workspace, params) as models:
        models.require_champion()
    return f"models:/{params.registry.model_name}@{params.registry.alias}"


def summarize(workspace: Workspace, params: Params) -> None:
    """Prints the last evaluation, the champion, and what to type next.

    Raises:
        RegistryError: If there is no champion to serve: says how to get one.
    """
    from person_attributes.evaluation import report

    heads = pd.read_csv(workspace.heads, index_col="head")
    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    name, alias = params.registry.model_name, params.registry.alias
    print(f"\n{report.format_table(heads, metrics)}\n", flush=True)
    with _open_registry(workspace, params) as models:
        champion = models.require_champion()
        version = models.find_content(_digest_content(workspace, params))
        verdict = "is not registered: run dvc repro"
        if version:
            verdict = f"is version {version.version} and {models.word_verdict(version)}"
    print(f"report            {workspace.relative(workspace.evaluation_page)}")
    print(f"registered model  {name} version {champion.version}, alias {alias}")
    if version is None or version.version != champion.version:
        print(f"this network      {verdict}")
    print()
    environment = workspace.root / ".venv"
    if environment.exists() and os.environ.get("VIRTUAL_ENV") != str(environment):
        print("in this shell     source .venv/bin/activate")
    print(f"compare runs      {_word_user_interface()}")
    uri = shlex.quote(f"models:/{name}@{alias}")
    print(f"serve the model   mlflow models serve -m {uri} --env-manager uv --port 5001")


def _word_user_interface() -> str:
    """Says where runs are compared: at the server, or in a user interface of one's own."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    if server.startswith("http"):
        return server
    return "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1"


@contextlib.contextmanager
def _open_registry(workspace: Workspace, params: Params) -> Iterator["Registry"]:
    """Opens the registry; what MLflow raises in the block becomes one line."""
    from person_attributes.promotion import Registry
    from person_attributes.tracking.connection import connect, telling_in_one_line

    with telling_in_one_line():
        yield Registry(connect(workspace), workspace, params.registry)


def _check_progress(
    models: "Registry", predictions: "Predictions", workspace: Workspace, params: Params
) -> list["Condition"]:
    """Gives the conditions against the champion; none where there is none with its files."""
    from person_attributes.comparing import find_evaluated
    from person_attributes.evaluation.gate import Condition, check_progress

    champion = models.find_servable_champion()
    if champion is None:
        return []
    section, number = params.registry, champion.version
    try:
        before = find_evaluated(workspace, f"models:/{section.model_name}/{number}")
        return check_progress(
            before.predictions, predictions, section.gate, params.evaluation, params.seed
        )
    except OtherRowsError as error:
        return [
            Condition(
                f"rows of version {number}",
                "the same, or registry.gate.when_rows_differ promote",
                str(error).partition(".")[0],
                section.gate.when_rows_differ == "promote",
            )
        ]
    except ComparisonError as error:
        return [Condition(f"evaluation of version {number}", "at hand", str(error), holds=False)]


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
