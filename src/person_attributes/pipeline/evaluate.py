"""The stage `evaluate`: writes metrics, predictions, plots and the report."""

from pathlib import Path

import pandas as pd

from person_attributes.config import Params
from person_attributes.data.dataset import Dataset
from person_attributes.evaluation.calibration import scale_heads
from person_attributes.evaluation.results import Evaluation, evaluate_network
from person_attributes.files import write_json, writing
from person_attributes.pipeline.members import combine_members, load_members
from person_attributes.pipeline.provenance import refuse_other_split
from person_attributes.reporting.content import fill_report
from person_attributes.reporting.report import Report, format_table, render_report
from person_attributes.tracking.stages import open_stage_run
from person_attributes.workspace import Workspace


def evaluate(workspace: Workspace, params: Params) -> None:
    """Scores all validation and test rows; writes metrics, predictions, plots and the report."""
    sections = {"seed", "evaluation", "report"}
    reads, writes = _list_inputs(workspace, params), _list_outputs(workspace)
    with open_stage_run("evaluate", workspace, params, sections, reads, writes) as run:
        dataset = Dataset(workspace, params.evaluated_image_size)
        for phase in params.evaluation.phases:
            refuse_other_split(workspace, workspace.selected_provenance(phase), dataset.split)
        members = load_members(workspace, params)
        evaluation = evaluate_network(dataset, params, combine_members(members, params))
        curves = _read_learning_curves(workspace)
        report = fill_report(evaluation, members, curves, params)
        metrics = evaluation.to_metrics()
        _write(workspace, evaluation, report, metrics)
        run.log_file(workspace.evaluation)
        run.log_file(workspace.heads)
        run.log_file(workspace.params)
        run.log_results(metrics)
        run.set_tags({"split.digest": dataset.split.digest})
        print(format_table(evaluation.scores.heads, metrics))


def _list_inputs(workspace: Workspace, params: Params) -> list[Path]:
    return [
        workspace.selected,
        workspace.learning_curves,
        workspace.normalization,
        workspace.pack(params.evaluated_image_size),
        workspace.records,
        workspace.one_hot,
        workspace.label_map,
        workspace.split,
    ]


def _list_outputs(workspace: Workspace) -> list[Path]:
    return [
        workspace.metrics,
        workspace.heads,
        workspace.temperatures,
        workspace.evaluation_page,
        workspace.figures,
        workspace.answers,
        workspace.predictions,
        workspace.test_predictions,
        workspace.slices,
        workspace.label_issues,
    ]


def _read_learning_curves(workspace: Workspace) -> pd.DataFrame:
    return pd.read_csv(
        workspace.learning_curves,
        dtype={"phase": str},
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
    )


def _write(
    workspace: Workspace, evaluation: Evaluation, report: Report, metrics: dict[str, float]
) -> None:
    with writing(workspace.metrics) as path:
        write_json(path, metrics)
    with writing(workspace.temperatures) as path:
        write_json(path, evaluation.temperatures)
    _write_table(workspace.heads, report.scores.heads.reset_index())
    with writing(workspace.evaluation) as folder:
        figures = folder / workspace.figures.name
        figures.mkdir(parents=True)
        for title, svg in report.figures.items():
            name = title.lower().replace(" ", "_")
            (figures / f"{name}.svg").write_text(svg, encoding="utf-8")
        (folder / workspace.evaluation_page.name).write_text(
            render_report(report), encoding="utf-8"
        )
        evaluation.validation.write(folder / workspace.predictions.name)
        evaluation.test.write(folder / workspace.test_predictions.name)
        _write_table(folder / workspace.answers.name, _build_answers(evaluation))
        _write_table(folder / workspace.slices.name, report.slices)
        _write_table(folder / workspace.label_issues.name, report.label_issues)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with writing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _build_answers(evaluation: Evaluation) -> pd.DataFrame:
    """Builds the table of answers that a registered model gives on the validation rows.

    Returns:
        One row per image: `row`, then `HEAD_true`, `HEAD_pred` and `HEAD_prob` of each head.
    """
    label_map, predictions = evaluation.label_map, evaluation.validation
    calibrated = scale_heads(predictions.y_prob, evaluation.temperatures)
    true, predicted = label_map.decode(predictions.y_true), label_map.decode(predictions.y_prob)
    table = pd.DataFrame({"row": predictions.rows})
    for head in label_map.heads:
        table[f"{head}_true"] = true[head]
        table[f"{head}_pred"] = predicted[head]
        table[f"{head}_prob"] = calibrated[head].max(axis=1).round(6)
    return table
