"""The stages after training: scores, the report, the registry."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from person_attributes.config import Params
from person_attributes.data.annotations import read_records
from person_attributes.data.packs import open_pack
from person_attributes.data.split import TEST, VALIDATION, Split, find_positions
from person_attributes.labels import LabelMap
from person_attributes.stages.wiring import (
    load_scored_network,
    open_stage_run,
    read_targets,
    refuse_other_split,
    write_json,
    writing,
)
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    from person_attributes.evaluation.metrics import Scores
    from person_attributes.evaluation.predictions import Probabilities


def evaluate(workspace: Workspace, params: Params) -> None:
    """Scores every validation row and writes numbers, figures and the report page."""
    from person_attributes.data.batches import ImageBatches
    from person_attributes.evaluation import metrics, report
    from person_attributes.evaluation.predictions import predict_batches

    phase = params.evaluation.phase
    image_size = params.phases[phase].image_size
    reads = [
        workspace.weights(phase),
        workspace.provenance(phase),
        workspace.normalization,
        workspace.pack(image_size),
        workspace.records,
        workspace.one_hot,
        workspace.label_map,
        workspace.split,
        *(workspace.history(name) for name in params.phases),
    ]
    writes = [
        workspace.metrics,
        workspace.heads,
        workspace.learning_curves,
        workspace.confusions,
        workspace.evaluation_page,
        workspace.predictions,
        workspace.probabilities,
    ]
    sections = {"seed", "evaluation", "report"}
    with open_stage_run("evaluate", workspace, params, sections, reads, writes) as run:
        drawn = Split.read(workspace.split)
        refuse_other_split(workspace, phase, drawn)
        classifier = load_scored_network(workspace, params)
        records, targets = read_records(workspace.records), read_targets(workspace)
        images = open_pack(workspace.pack(image_size))
        trained = find_positions(records, drawn.train)

        def score_part(part: str) -> tuple["Probabilities", "Probabilities", "Scores"]:
            positions = find_positions(records, drawn.parts[part])
            batches = ImageBatches(
                images,
                targets,
                positions,
                params.evaluation.batch_size,
                augmenter=None,
                seed=None,
            )
            y_prob = predict_batches(classifier, batches)
            y_true = {head: target[positions] for head, target in targets.items()}
            scores = metrics.score(
                y_true,
                y_prob,
                {head: target[trained] for head, target in targets.items()},
                confidence=params.evaluation.confidence,
                bootstrap_samples=params.evaluation.bootstrap_samples,
                seed=params.seed,
            )
            return y_true, y_prob, scores

        y_true, y_prob, scores = score_part(VALIDATION)
        test_scores = score_part(TEST)[2] if TEST in drawn.parts else None
        figures_by_name = _name_scores(scores, test_scores)
        positions = find_positions(records, drawn.validation)
        curves = _read_learning_curves(workspace, params)
        _write_scores(workspace, scores.heads, figures_by_name, curves)
        label_map = LabelMap.read(workspace.label_map)
        _write_predictions(workspace, label_map, drawn.validation, y_true, y_prob)
        mistakes = {
            head: report.find_mistakes(
                y_true[head],
                y_prob[head],
                label_map.classes[head],
                drawn.validation,
                images,
                positions,
                params.evaluation.mistakes_per_head,
            )
            for head in label_map.heads
        }
        pictures = _draw_pictures(scores, curves, label_map, y_true, y_prob, params.report.colour)
        page = report.render_report(
            scores,
            test_scores,
            pictures,
            mistakes,
            params.report.colour,
            params.evaluation.confidence,
        )
        with writing(workspace.evaluation_page) as path:
            path.write_text(page, encoding="utf-8")
        for title, picture in pictures.items():
            run.log_bytes(picture, f"{title.lower().replace(' ', '_')}.png")
        run.log_file(workspace.evaluation)
        run.log_results(figures_by_name)
        run.set_tags({"split.digest": drawn.digest})
        run.log_file(workspace.heads)
        print(report.format_table(scores.heads, figures_by_name))


def register(workspace: Workspace, params: Params) -> None:
    """Exports, checks, logs and registers the model; moves the alias where the gate holds."""
    from person_attributes import registry
    from person_attributes.tracking import runs

    phase = params.evaluation.phase
    image_size = params.phases[phase].image_size
    reads = [
        workspace.weights(phase),
        workspace.normalization,
        workspace.label_map,
        workspace.pack(image_size),
        workspace.records,
        workspace.split,
        workspace.metrics,
        workspace.probabilities,
    ]
    with open_stage_run("register", workspace, params, {"registry"}, reads, writes=[]) as run:
        drawn = Split.read(workspace.split)
        scores = json.loads(workspace.metrics.read_text(encoding="utf-8"))
        classifier = load_scored_network(workspace, params)
        with tempfile.TemporaryDirectory() as folder:
            network = Path(folder) / "network.onnx"
            registry.export_network(classifier, network)
            difference = registry.check_export(
                network,
                open_pack(workspace.pack(image_size)),
                find_positions(read_records(workspace.records), drawn.validation),
                dict(np.load(workspace.probabilities)),
                params.registry.max_export_difference,
            )
            version = registry.log_model(
                network,
                workspace.label_map,
                workspace.weights(phase),
                params.data.limits.image_megapixels,
                params.registry.model_name,
            )
        client = runs.connect(workspace)
        registered = registry.promote_if_better(
            client, version, scores["mean_accuracy"], drawn.validation_digest, params.registry
        )
        run.log_metrics({"export_difference": difference})
        run.log_results(scores)
        run.set_tags({"registered_version": version, "gate.reason": registered.reason})
        print(
            f"register: {params.registry.model_name} version {version} "
            f"{'is' if registered.is_champion else 'is not'} {params.registry.alias}: "
            f"{registered.reason}"
        )


def summarize(workspace: Workspace, params: Params) -> None:
    """Prints the last evaluation, the champion, and what to type next."""
    from person_attributes.evaluation import report
    from person_attributes.tracking import runs

    heads = pd.read_csv(workspace.heads, index_col="head")
    scores = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    name, alias = params.registry.model_name, params.registry.alias
    champion = runs.connect(workspace).get_model_version_by_alias(name, alias)
    print(f"\n{report.format_table(heads, scores)}\n")
    print(f"report            {workspace.relative(workspace.evaluation_page)}")
    print(f"registered model  {name} version {champion.version}, alias {alias}")
    print("\ncompare runs      MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1")
    print(f"serve the model   mlflow models serve -m models:/{name}@{alias} --env-manager uv")


def _name_scores(scores: "Scores", test_scores: "Scores | None") -> dict[str, float]:
    """Names the figures of the validation rows, and with `test_` in front those of the others."""
    named = scores.to_metrics()
    if test_scores:
        named |= {f"test_{name}": value for name, value in test_scores.to_metrics().items()}
    return named


def _read_learning_curves(workspace: Workspace, params: Params) -> pd.DataFrame:
    """Puts the histories of the phases end to end: columns `epoch`, `phase`, then the figures."""
    histories = {phase: pd.read_csv(workspace.history(phase)) for phase in params.phases}
    curves = pd.concat(histories, names=["phase"]).reset_index("phase")
    curves["epoch"] = range(1, len(curves) + 1)
    return curves


def _write_scores(
    workspace: Workspace, heads: pd.DataFrame, figures: dict[str, float], curves: pd.DataFrame
) -> None:
    with writing(workspace.heads) as path:
        heads.to_csv(path, lineterminator="\n")
    with writing(workspace.learning_curves) as path:
        curves.to_csv(path, index=False, lineterminator="\n")
    with writing(workspace.metrics) as path:
        write_json(path, figures)


def _write_predictions(
    workspace: Workspace,
    label_map: LabelMap,
    rows: tuple[int, ...],
    y_true: "Probabilities",
    y_prob: "Probabilities",
) -> None:
    """Writes what was said of each row, and pairs of true and predicted classes for the plots."""
    truth, prediction = label_map.decode(y_true), label_map.decode(y_prob)
    table = pd.DataFrame({"row": rows})
    for head in label_map.heads:
        table[f"{head}_true"] = truth[head]
        table[f"{head}_pred"] = prediction[head]
        table[f"{head}_prob"] = y_prob[head].max(axis=1).round(6)
    with writing(workspace.predictions) as path:
        table.to_csv(path, index=False, lineterminator="\n")
    with writing(workspace.probabilities) as path:
        np.savez(path, **dict(y_prob))
    with writing(workspace.confusions) as folder:
        folder.mkdir()
        for head in label_map.heads:
            pairs = pd.DataFrame({"actual": truth[head], "predicted": prediction[head]})
            pairs = pairs[pairs["actual"] != ""]
            pairs.to_csv(folder / f"{head}.csv", index=False, lineterminator="\n")


def _draw_pictures(
    scores: "Scores",
    curves: pd.DataFrame,
    label_map: LabelMap,
    y_true: "Probabilities",
    y_prob: "Probabilities",
    colour: str,
) -> dict[str, bytes]:
    """Draws the figures of the report as PNG bytes by title, in the order to show them."""
    from person_attributes.evaluation import figures, metrics

    matrices = {head: metrics.confusion(y_true[head], y_prob[head]) for head in label_map.heads}
    return {
        "Accuracy of each head": figures.draw_head_accuracies(scores.heads, colour),
        "Learning curves": figures.draw_learning_curves(curves, colour),
        "Confusions": figures.draw_confusions(matrices, label_map.classes, colour),
    }
