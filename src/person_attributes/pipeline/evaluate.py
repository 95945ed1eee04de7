"""The stage `evaluate`: scores, pictures, the report page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import Params
from person_attributes.data.annotations import read_records
from person_attributes.data.images import Images
from person_attributes.data.packs import open_pack
from person_attributes.data.split import TEST, VALIDATION, Split, find_positions
from person_attributes.labels import LabelMap
from person_attributes.pipeline.networks import (
    load_trained_network,
    open_stage_run,
    read_targets,
    refuse_other_split,
    write_json,
    writing,
)
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    import keras

    from person_attributes.reporting.examples import Example
    from person_attributes.evaluation.metrics import OneHot
    from person_attributes.evaluation.predictions import Predictions
    from person_attributes.reporting.report import Report, ShownExample, SuspiciousLabel
    from person_attributes.evaluation.scores import Scores


def evaluate(workspace: Workspace, params: Params) -> None:
    """Scores every validation and test row; writes numbers, figures and the report page."""
    from person_attributes.evaluation import report
    from person_attributes.modeling.classifier import average_flips

    phase = params.evaluation.phase
    reads = [
        workspace.weights(phase),
        workspace.provenance(phase),
        workspace.normalization,
        workspace.pack(params.phases[phase].image_size),
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
        workspace.temperatures,
        workspace.evaluation_page,
        workspace.figures,
        workspace.answers,
        workspace.predictions,
        workspace.test_predictions,
        workspace.slices,
        workspace.suspicious_labels,
    ]
    sections = {"seed", "evaluation", "report"}
    with open_stage_run("evaluate", workspace, params, sections, reads, writes) as run:
        drawn = Split.read(workspace.split)
        refuse_other_split(workspace, phase, drawn)
        _remove_former_histories(workspace, params)
        classifier = load_trained_network(workspace, params)
        network = average_flips(classifier) if params.evaluation.flips else classifier
        evaluation = _evaluate(workspace, params, drawn, network)
        curves = _read_learning_curves(workspace, params)
        content = _fill_report(evaluation, classifier, curves, params)
        figures = evaluation.to_metrics()
        _write(workspace, evaluation, content, curves, figures)
        run.log_file(workspace.evaluation)
        run.log_file(workspace.heads)
        run.log_file(workspace.params)
        run.log_results(figures)
        run.set_tags({"split.digest": drawn.digest})
        print(report.format_table(evaluation.scores.heads, figures))


@dataclass(frozen=True)
class _Evaluation:
    """All that is computed of the rows.

    Attributes:
        label_map: Heads and classes.
        images: The pack.
        positions: Of the validation rows in it.
        validation: Their labels and probabilities, as the network gives them.
        calibrated: Their probabilities at temperatures that were fitted on other rows.
        temperatures: Fitted on all validation rows; test rows, and whoever is served, get these.
        scores: Of the validation rows.
        test: Of the test rows, as the network gives them; empty where there are none.
        test_scores: Of those.
        train_metrics: Of training rows, scored as the others are.
    """

    label_map: LabelMap
    images: Images
    positions: npt.NDArray[np.intp]
    validation: "Predictions"
    calibrated: "OneHot"
    temperatures: dict[str, float]
    scores: "Scores"
    test: "Predictions"
    test_scores: "Scores | None"
    train_metrics: dict[str, float]

    def to_metrics(self) -> dict[str, float]:
        """Names all figures; those of the test rows have `test_` in front."""
        named = self.scores.to_metrics() | self.train_metrics
        if self.test_scores:
            test = self.test_scores.to_metrics()
            named |= {f"test_{name}": value for name, value in test.items()}
        return named


def _evaluate(
    workspace: Workspace, params: Params, drawn: Split, network: "keras.Model"
) -> _Evaluation:
    from person_attributes.data.batches import ImageBatches
    from person_attributes.evaluation import calibration, metrics, scores
    from person_attributes.evaluation.predictions import Predictions, predict_batches

    section = params.evaluation
    records, targets = read_records(workspace.records), read_targets(workspace)
    images = open_pack(workspace.pack(params.phases[section.phase].image_size))
    y_train = {
        head: target[find_positions(records, drawn.train)] for head, target in targets.items()
    }

    def predict(rows: tuple[int, ...]) -> Predictions:
        positions = find_positions(records, rows)
        y_true = {head: target[positions] for head, target in targets.items()}
        if not rows:
            return Predictions(positions, y_true, y_true)
        batches = ImageBatches(
            images, targets, positions, section.batch_size, augmenter=None, seed=None
        )
        return Predictions(np.array(rows), y_true, predict_batches(network, batches))

    found = predict(drawn.validation)
    calibrated = calibration.cross_fit(
        found.y_true, found.y_prob, section.calibration_folds, params.seed
    )
    temperatures = calibration.fit_temperatures(found.y_true, found.y_prob)
    test, test_scores = predict(drawn.parts.get(TEST, ())), None
    if len(test.rows):
        scaled = calibration.scale_heads(test.y_prob, temperatures)
        test_scores = scores.score(test.y_true, test.y_prob, scaled, y_train, section, params.seed)
    random = np.random.default_rng(params.seed)
    count = min(section.training_rows, len(drawn.train))
    train = predict(tuple(np.sort(random.choice(drawn.train, count, replace=False)).tolist()))
    return _Evaluation(
        label_map=LabelMap.read(workspace.label_map),
        images=images,
        positions=find_positions(records, drawn.parts[VALIDATION]),
        validation=found,
        calibrated=calibrated,
        temperatures=temperatures,
        scores=scores.score(found.y_true, found.y_prob, calibrated, y_train, section, params.seed),
        test=test,
        test_scores=test_scores,
        train_metrics={
            f"train_{name}": value
            for name, value in metrics.sum_up(train.y_true, train.y_prob).items()
        },
    )


def _remove_former_histories(workspace: Workspace, params: Params) -> None:
    """Removes histories of phases that are no longer there: DVC digests all of their folder."""
    kept = {workspace.history(phase) for phase in params.phases}
    for path in workspace.history(params.evaluation.phase).parent.glob("*.csv"):
        if path not in kept:
            path.unlink()


def _read_learning_curves(workspace: Workspace, params: Params) -> pd.DataFrame:
    """Puts the histories of the phases end to end: columns `epoch`, `phase`, then the figures."""
    histories = {phase: pd.read_csv(workspace.history(phase)) for phase in params.phases}
    curves = pd.concat(histories, names=["phase"]).reset_index("phase")
    curves["epoch"] = range(1, len(curves) + 1)
    return curves


def _fill_report(
    evaluation: _Evaluation, classifier: "keras.Model", curves: pd.DataFrame, params: Params
) -> "Report":
    from person_attributes.evaluation import examples, scores
    from person_attributes.evaluation.predictions import Predictions
    from person_attributes.reporting.report import Report

    section, found = params.evaluation, evaluation.validation
    classes = evaluation.label_map.classes
    calibrated = Predictions(found.rows, found.y_true, evaluation.calibrated)
    mistakes, hits = (
        {head: find(calibrated, head, classes[head], count) for head in classes}
        for find, count in (
            (examples.find_mistakes, section.mistakes_per_head),
            (examples.find_lucky_hits, section.lucky_hits_per_head),
        )
    )
    suspicious = {
        head: examples.find_suspicious_labels(calibrated, head, classes[head]) for head in classes
    }
    return Report(
        scores=evaluation.scores,
        test_scores=evaluation.test_scores,
        train_metrics=evaluation.train_metrics,
        temperatures=evaluation.temperatures,
        slices=scores.score_slices(found.y_true, found.y_prob, classes, section, params.seed),
        figures=_draw_figures(evaluation, curves, params),
        mistakes=_show_examples(evaluation, classifier, mistakes),
        lucky_hits=_show_examples(evaluation, classifier, hits),
        suspicious={
            head: _show_labels(evaluation, table[: section.suspicious_per_head])
            for head, table in suspicious.items()
        },
        suspicious_labels=pd.concat(suspicious.values()),
        confidence=section.confidence,
        colour=params.report.colour,
    )


def _draw_figures(evaluation: _Evaluation, curves: pd.DataFrame, params: Params) -> dict[str, str]:
    """Draws the figures of the report as SVG by title, in the order to show them."""
    from person_attributes.evaluation import figures, metrics, scores

    section, colour, found = params.evaluation, params.report.colour, evaluation.validation
    classes = evaluation.label_map.classes
    matrices = {
        head: metrics.count_confusions(found.y_true[head], found.y_prob[head]) for head in classes
    }
    by_class = scores.score_classes(found.y_true, found.y_prob, classes, section, params.seed)
    return {
        "Accuracy of each head": figures.draw_head_accuracies(evaluation.scores.heads, colour),
        "Learning curves": figures.draw_learning_curves(curves, colour),
        "Classes": figures.draw_class_recalls(by_class, colour),
        "Confusions": figures.draw_confusions(matrices, classes, colour),
        "Reliability": figures.draw_reliability(
            found.y_true, found.y_prob, evaluation.calibrated, section.calibration_bins, colour
        ),
    }


def _show_examples(
    evaluation: _Evaluation, classifier: "keras.Model", examples: Mapping[str, list["Example"]]
) -> dict[str, list["ShownExample"]]:
    """Puts images and heat maps beside answers."""
    from person_attributes.reporting.plots import lay_heat
    from person_attributes.reporting.gradcam import GradCam
    from person_attributes.reporting.report import ShownExample

    looker = GradCam(classifier)
    shown: dict[str, list[ShownExample]] = {}
    for head, chosen in examples.items():
        shown[head] = []
        if chosen:
            positions = evaluation.positions[[example.position for example in chosen]]
            images = np.asarray(evaluation.images[positions])
            answers = np.array([example.answer_number for example in chosen])
            heats = looker.explain(images, head, answers)
            shown[head] = [
                ShownExample(example, image, lay_heat(image, heat))
                for example, image, heat in zip(chosen, images, heats, strict=True)
            ]
    return shown


def _show_labels(evaluation: _Evaluation, table: pd.DataFrame) -> list["SuspiciousLabel"]:
    from person_attributes.reporting.report import SuspiciousLabel

    position_of_row = dict(
        zip(evaluation.validation.rows.tolist(), evaluation.positions, strict=True)
    )
    return [
        SuspiciousLabel(label, np.asarray(evaluation.images[position_of_row[label["row"]]]))
        for label in table.to_dict("records")
    ]


def _write(
    workspace: Workspace,
    evaluation: _Evaluation,
    report: "Report",
    curves: pd.DataFrame,
    figures: dict[str, float],
) -> None:
    from person_attributes.reporting.report import render_report

    with writing(workspace.metrics) as path:
        write_json(path, figures)
    with writing(workspace.temperatures) as path:
        write_json(path, evaluation.temperatures)
    _write_table(workspace.heads, report.scores.heads.reset_index())
    _write_table(workspace.learning_curves, curves)
    with writing(workspace.evaluation) as folder:
        drawn = folder / workspace.figures.name
        drawn.mkdir(parents=True)
        for title, svg in report.figures.items():
            name = title.lower().replace(" ", "_")
            (drawn / f"{name}.svg").write_text(svg, encoding="utf-8")
        (folder / workspace.evaluation_page.name).write_text(
            render_report(report), encoding="utf-8"
        )
        evaluation.validation.write(folder / workspace.predictions.name)
        evaluation.test.write(folder / workspace.test_predictions.name)
        _write_table(folder / workspace.answers.name, _list_answers(evaluation))
        _write_table(folder / workspace.slices.name, report.slices)
        _write_table(folder / workspace.suspicious_labels.name, report.suspicious_labels)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with writing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _list_answers(evaluation: _Evaluation) -> pd.DataFrame:
    """Lists what a registered model says of each row: `HEAD_true`, `HEAD_pred`, `HEAD_prob`."""
    from person_attributes.evaluation.calibration import scale_heads

    label_map, found = evaluation.label_map, evaluation.validation
    served = scale_heads(found.y_prob, evaluation.temperatures)
    truth, answer = label_map.decode(found.y_true), label_map.decode(found.y_prob)
    table = pd.DataFrame({"row": found.rows})
    for head in label_map.heads:
        table[f"{head}_true"] = truth[head]
        table[f"{head}_pred"] = answer[head]
        table[f"{head}_prob"] = served[head].max(axis=1).round(6)
    return table
