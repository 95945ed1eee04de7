"""The whole pipeline with DVC and MLflow, and requests to a served model over HTTP."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from conftest import STAGES, Project, change_params, kill, read_until, read_yaml
from endpoints import Endpoint, encode, serve
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tiny_model import Registered

from person_attributes.config import read_params
from person_attributes.files import remove
from person_attributes.tracking.database import sqlite_address
from person_attributes.workspace import Workspace


def _client(project: Project) -> MlflowClient:
    return MlflowClient(sqlite_address(project.root / "mlflow.db"))


def _runs(project: Project) -> list[Run]:
    client = _client(project)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def _download(project: Project, version: str) -> Path:
    """Downloads the files of a version of the registry: `/2` or `@champion`."""
    folder = project.root / f"downloaded{version[1:]}"
    folder.mkdir()
    uri = f"models:/person-attributes{version}"
    with Registered(project.root).store():
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def _find_network(folder: Path) -> Path:
    (found,) = folder.rglob("network.onnx")
    return found


def _champion(project: Project) -> str:
    version = _client(project).get_model_version_by_alias("person-attributes", "champion")
    return str(version.version)


def _stage_of(run: Run) -> str | None:
    return run.data.tags.get("dvc.stage")


def _parents(runs: list[Run]) -> list[Run]:
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


def test_a_second_repro_only_checks_the_registry_and_logs_no_run(finished: Project) -> None:
    before = len(_runs(finished))
    assert finished.repro() == ["register"]
    assert len(_runs(finished)) == before


def test_every_stage_is_a_finished_run_with_the_same_parent(finished: Project) -> None:
    runs = _runs(finished)
    (parent,) = _parents(runs)
    children = [run for run in runs if run is not parent]
    assert sorted(str(_stage_of(run)) for run in children) == sorted(STAGES)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in children:
        assert run.data.metrics, _stage_of(run)
        assert run.data.params, _stage_of(run)
        assert run.data.tags["mlflow.source.git.commit"]


def test_runs_log_the_digests_that_dvc_computes(finished: Project) -> None:
    lock = read_yaml(finished.root / "dvc.lock")["stages"]
    compared = 0
    for run in _runs(finished):
        stage = _stage_of(run)
        if stage:
            written = json.loads(run.data.tags["dvc.written"])
            assert written == {out["path"]: out["md5"] for out in lock[stage].get("outs", [])}
            compared += len(written)
    assert compared > 20


def test_the_parent_run_has_all_parameters_and_the_final_accuracies(finished: Project) -> None:
    (parent,) = _parents(_runs(finished))
    metrics = json.loads((finished.root / "reports/metrics.json").read_text())
    assert parent.data.params["phases.p4.learning_rate"] == "0.001"
    assert len(parent.data.params) > 80
    for head in read_params(finished.params_file).heads:
        name = f"{head}_accuracy"
        assert parent.data.metrics[name] == metrics[name]


def test_phases_log_every_epoch_of_every_head(finished: Project) -> None:
    params = read_params(finished.params_file)
    for run in _runs(finished):
        if str(_stage_of(run)).startswith("train@"):
            for head in params.heads:
                assert {f"{head}_accuracy", f"val_{head}_loss"} <= set(run.data.metrics)
            assert {"learning_rate", "images_per_second", "val_loss"} <= set(run.data.metrics)
            artifacts = _client(finished).list_artifacts(run.info.run_id, "model")
            assert [artifact.path.endswith(".keras") for artifact in artifacts] == [True]


def test_data_stages_log_their_data_and_plots(finished: Project) -> None:
    by_stage = {_stage_of(run): run for run in _runs(finished)}
    client = _client(finished)
    for stage, artifact in (
        ("ingest", "class_shares.png"),
        ("split", "class_shares_validation.png"),
        ("split", "near_duplicates.csv"),
        ("pack@32", "labelled_images.png"),
        ("inspect", "index.html"),
        ("initialize", "network.png"),
        ("evaluate", "figures/confusion_matrices.svg"),
    ):
        run_id, folder = by_stage[stage].info.run_id, str(Path(artifact).parent).strip(".")
        assert artifact in {file.path for file in client.list_artifacts(run_id, folder or None)}
    for stage in ("ingest", "encode", "split"):
        inputs = by_stage[stage].inputs
        assert inputs is not None
        assert inputs.dataset_inputs


def test_all_validation_rows_are_scored_and_no_training_row(finished: Project) -> None:
    split = json.loads((finished.root / "data/split.json").read_text())
    predictions = pd.read_csv(finished.root / "reports/evaluation/predictions.csv")
    assert predictions["row"].tolist() == split["validation"]
    assert not set(predictions["row"]) & set(split["train"])


@pytest.mark.parametrize("folder", ["data", "evaluation"])
def test_pages_need_no_other_files(finished: Project, folder: str) -> None:
    page = (finished.root / f"reports/{folder}/index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    assert page.count("<svg") >= 3
    assert "<script" not in page


def test_dvc_shows_the_metrics_of_each_head(finished: Project) -> None:
    shown = finished.run("dvc", "metrics", "show").stdout
    assert "gender_accuracy" in shown
    assert "mean_accuracy" in shown
    dag = finished.run("dvc", "dag", "--dot").stdout
    assert '"train@p3" -> "train@p4"' in dag


def test_dvc_shows_the_figures_offline(finished: Project) -> None:
    plotted = finished.run("dvc", "plots", "show", "--out", "dvc_plots")
    assert "failed" not in plotted.stdout + plotted.stderr
    page = (finished.root / "dvc_plots/index.html").read_text()
    assert "https://" not in page
    for figure in (
        "calibration",
        "confusion_matrices",
        "learning_curves",
        "recall_and_precision_per_class",
    ):
        assert f"{figure}.svg" in page


@pytest.fixture(scope="module")
def changed(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project executed again with another learning rate of its last phase; do not change it."""
    project = finished.copy(tmp_path_factory.mktemp("changed") / "project")
    change_params(project.params_file, {"phases.p5.learning_rate": 0.02})
    assert "phases.p5.learning_rate" in project.run("dvc", "params", "diff").stdout
    assert project.repro() == ["train@p5", "select", "evaluate", "register"]
    project.commit("Faster")
    return project


def test_an_execution_names_the_runs_that_it_reused(finished: Project, changed: Project) -> None:
    before = {run.info.run_id: str(_stage_of(run)) for run in _runs(finished)}
    project = changed
    parent = _parents(_runs(project))[-1]
    assert parent.info.run_id not in before
    reused = {
        before[value]: key.removeprefix("reused.").replace(" ", "@")
        for key, value in parent.data.tags.items()
        if key.startswith("reused.")
    }
    upstream = [stage for stage in STAGES[:12] if stage != "inspect"]
    assert reused == {stage: stage for stage in upstream}
    assert parent.data.params["phases.p5.learning_rate"] == "0.02"


def test_evaluations_can_be_named_in_different_ways(changed: Project) -> None:
    """The same two evaluations, as executions, model versions and git revisions."""
    first, second = (run.info.run_id for run in _parents(_runs(changed)))
    pairs = [
        (first, second),
        ("models:/person-attributes/1", "models:/person-attributes/2"),
        ("HEAD~1", "HEAD"),
        ("HEAD~1", "workspace"),
    ]
    tables = [changed.cli("compare", *pair).stdout.split("\n", 2)[2] for pair in pairs]
    assert "phases.p5.learning_rate: 0.001 -> 0.02" in tables[0]
    assert re.search(r"mean accuracy [+-]0\.\d{4} \(.* on the same 9 validation rows\.", tables[0])
    assert set(tables) == {tables[0]}


def test_revisions_of_a_project_in_a_folder_of_a_repository_are_found(
    finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "repository" / "project")
    remove(project.root / ".git")
    project.run("git", "init", "--quiet", "..")
    project.commit("Add the project")
    assert "no parameter differs" in project.cli("compare", "HEAD", "workspace").stdout


def test_an_impossible_comparison_is_one_line(finished: Project) -> None:
    (parent,) = _parents(_runs(finished))
    by_stage = {_stage_of(run): run.info.run_id for run in _runs(finished)}
    for reference, reason in (
        ("nothing", "no such run, model or git revision"),
        ("models:/person-attributes/77", "no such model"),
        ("models:/person-attributes", "no such model"),
        ("0" * 32, "no such run"),
        (by_stage["ingest"], "has no evaluation"),
    ):
        refused = finished.cli("compare", parent.info.run_id, reference, code=2)
        assert reason in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_challenger_that_gains_too_little_needs_a_reason(project: Project) -> None:
    change_params(project.params_file, {"registry.gate.min_gain": 0.9})
    project.cli("register")
    assert _champion(project) == "1"
    challenger = _client(project).get_model_version("person-attributes", "2")
    assert challenger.tags["gate.promoted"] == "false"
    assert "| gain in mean accuracy | at least +0.900 |" in str(challenger.description)
    refused = project.cli("promote", "2", code=2)
    assert "gain in mean accuracy: expected at least +0.900" in refused.stderr
    project.cli("promote", "2", "--because", "the measure of another team")
    assert _champion(project) == "2"
    listed = project.cli("models").stdout
    assert "by hand: the measure of another team" in listed
    project.cli("rollback")
    assert _champion(project) == "1"


def test_false_metrics_are_not_promoted(project: Project) -> None:
    path = project.root / "reports/metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"age_accuracy": 0.97}))
    output = project.cli("register").stdout
    assert "version 2 is not champion: accuracies: expected fractions of rows" in output
    assert "age 0.9700, recomputed" in output


def test_another_colour_neither_trains_nor_registers(project: Project) -> None:
    change_params(project.params_file, {"report.colour": "#aa3355"})
    assert sorted(project.repro("--dry")) == ["evaluate", "inspect", "register"]
    project.execute("inspect", "evaluate", "register")
    assert [str(one.version) for one in _client(project).search_model_versions()] == ["1"]
    last = _parents(_runs(project))[-1]  # shown in the MLflow UI, so it needs metrics
    assert last.data.tags["registered_version"] == "1"
    assert 0 < last.data.metrics["mean_accuracy"] <= 1


def test_another_image_size_runs_only_its_pack(project: Project) -> None:
    change_params(project.params_file, {"data.image_sizes": [32, 40, 48]})
    assert project.repro("--dry", "pack", "inspect", "evaluate") == ["pack@48"]
    project.execute("pack@48")
    assert "modified" not in project.run("dvc", "status").stdout
    change_params(project.params_file, {"data.image_sizes": [32, 40]})
    assert project.repro("pack", "inspect", "evaluate") == []
    assert "modified" not in project.run("dvc", "status").stdout


def test_a_phase_that_is_not_evaluated_leaves_the_evaluation_up_to_date(project: Project) -> None:
    """When the phase is removed, its files are, too: `select` depends on their folders."""
    before, phases = project.params_file.read_bytes(), read_yaml(project.params_file)["phases"]
    selected = read_yaml(project.root / "dvc.lock")["stages"]["select"]
    for _ in range(2):  # also when the run cache has both runs
        change_params(project.params_file, {"phases.p6": phases["p5"] | {"starts_from": "p5"}})
        assert project.repro("evaluate") == ["train@p6", "select"]
        project.params_file.write_bytes(before)
        assert project.repro("evaluate") == ["select"]
        assert list(project.root.glob("*/phases/p6.*")) == []
        assert read_yaml(project.root / "dvc.lock")["stages"]["select"] == selected
    assert project.repro("evaluate") == []


def test_select_removes_nothing_if_it_fails_and_no_file_of_others(project: Project) -> None:
    workspace, before = Workspace(project.root), project.params_file.read_bytes()
    notes = workspace.weights("p5").with_name("notes.txt")
    notes.touch()
    phases = read_yaml(project.params_file)["phases"]
    renamed = {name.replace("p5", "last"): phase for name, phase in phases.items()}
    change_params(project.params_file, {"phases": renamed, "evaluation.phases": ["last"]})
    assert "last.weights.h5" in project.cli("select", code=2).stderr
    assert workspace.weights("p5").exists()
    project.params_file.write_bytes(before)
    project.cli("select")
    assert notes.exists()
    notes.unlink()


def test_weights_that_were_trained_after_select_are_refused(project: Project) -> None:
    workspace = Workspace(project.root)
    content = workspace.weights("p5").read_bytes()
    workspace.weights("p5").unlink()  # a link to DVC's cache
    workspace.weights("p5").write_bytes(workspace.weights("p4").read_bytes())
    message = "models/selected/p5.weights.h5: expected a copy of models/phases/p5.weights.h5"
    assert message in project.cli("evaluate", code=2).stderr
    workspace.weights("p5").write_bytes(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.source": "data/nowhere"}, "expected a folder or a .zip file. Received: no such"),
        ({"data.annotations": "labels.csv"}, "contains no file 'labels.csv'"),
        ({"heads.age.column": "years"}, "no column 'years'"),
        ({"heads.bag.classes": ["None", "Daily/Office/Work Bag"]}, "unknown carryingbag"),
        ({"model.drop_out": 0.5}, "model.drop_out: unknown key. Did you mean 'dropout'?"),
        (
            {"augmentation.standard.augmenters": [{"Flipl": {"p": 0.5}}]},
            "augmentation.standard.augmenters.0: Flipl: imgaug has no augmenter of this name. "
            "Did you mean 'Fliplr'?",
        ),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2_and_keeps_the_outputs(
    project: Project, changes: dict[str, Any], message: str
) -> None:
    def outputs() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for folder in ("data/records", "models", "reports")
            for path in (project.root / folder).rglob("*")
            if path.is_file()
        }

    before = outputs()
    change_params(project.params_file, changes)
    failed = project.cli("ingest", code=2)
    assert message in failed.stderr
    assert failed.stderr.count("\n") <= 3  # one line, one per kind of fault, and one of advice
    assert outputs() == before


def test_bad_rows_are_listed_and_the_error_names_the_limit(project: Project) -> None:
    image = project.root / "data/sample/resized/3.jpg"
    kept = image.read_bytes()
    image.write_bytes(kept[:1000])
    failed = project.cli("ingest", code=2)
    assert "1 of 60 rows are bad" in failed.stderr
    through_dvc = project.run("dvc", "repro", "--single-item", "ingest", code=None)
    assert through_dvc.returncode != 0
    assert "Traceback" not in through_dvc.stdout + through_dvc.stderr
    assert "raise data.max_quarantined_share in params.yaml" in failed.stderr
    rejected = pd.read_csv(project.root / "data/rejected.csv")
    assert rejected[["line", "image"]].to_numpy().tolist() == [[4, "resized/3.jpg"]]
    change_params(project.params_file, {"data.max_quarantined_share": 0.02})
    assert "59 records, 1 rows quarantined" in project.cli("ingest").stdout
    assert not (project.root / "data/rejected.csv").exists()
    quarantine = pd.read_csv(project.root / "data/records/quarantine.csv")
    pd.testing.assert_frame_equal(quarantine, rejected)
    assert image.read_bytes() == kept[:1000]


def test_another_split_between_phases_is_refused(project: Project) -> None:
    """Otherwise the rows that p5 is scored on may include rows that p4 was trained on."""
    change_params(project.params_file, {"split.seed": 43})
    project.cli("split")
    for command in (("train", "p5"), ("evaluate",)):
        failed = project.cli(*command, code=2)
        assert "was trained on another split" in failed.stderr
        assert failed.stderr.count("\n") == 1


def test_a_killed_execution_resumes_its_runs(project: Project) -> None:
    change_params(project.params_file, {"phases.p5.epochs": 2, "runtime.checkpoint_minutes": 0.0})
    known = {run.info.run_id for run in _runs(project)}
    dvc = project.start("dvc", "repro")
    read_until("p5 1/", dvc)
    kill(dvc)
    fresh = {run.info.run_id: run for run in _runs(project) if run.info.run_id not in known}
    assert [run.info.status for run in fresh.values()] == ["RUNNING", "RUNNING"]
    assert project.repro("evaluate") == ["train@p5", "select", "evaluate"]
    after = [run for run in _runs(project) if run.info.run_id not in known]
    assert len(_parents(after)) == 1
    stages = [_stage_of(run) for run in after if run not in _parents(after)]
    assert stages == ["train@p5", "select", "evaluate"]
    assert set(fresh) < {run.info.run_id for run in after}
    assert {run.info.status for run in after} == {"FINISHED"}
    assert _find_checkpoints(project) == []


def _find_checkpoints(project: Project) -> list[Path]:
    return sorted((project.root / "checkpoints").rglob("state.npy"))


def test_mlflow_run_is_the_parent_of_the_stages(project: Project) -> None:
    change_params(project.params_file, {"split.validation_share": 0.2})
    options = ["--env-manager", "local", "--experiment-name", "project runs"]
    project.run("mlflow", "run", ".", "-P", "target=split", *options)
    experiment = _client(project).get_experiment_by_name("project runs")
    assert experiment is not None
    runs = list(_client(project).search_runs([experiment.experiment_id]))
    (parent,) = _parents(runs)
    assert parent.data.tags["mlflow.project.entryPoint"] == "main"
    assert parent.data.params["split.validation_share"] == "0.2"
    assert [(_stage_of(run), run.info.status) for run in runs if run is not parent] == [
        ("split", "FINISHED")
    ]
    assert {"reused.ingest", "reused.sample"} <= set(parent.data.tags)


def test_only_the_evaluated_phase_warns_of_heads_at_the_class_prior(project: Project) -> None:
    change_params(project.params_file, {"training.min_prior_improvement": 0.99})
    warning = r"^p\d: \w+ is no better than the class prior \(loss \d+\.\d\d, prior \d+\.\d\d\)\. "
    for phase, warns in (("p4", False), ("p5", True)):
        output = project.cli("train", phase).stdout
        assert bool(re.search(warning, output, re.MULTILINE)) == warns
        by_stage = {_stage_of(run): run for run in _runs(project)}
        assert by_stage[f"train@{phase}"].data.tags[f"{phase}.at_prior"]


@pytest.fixture(scope="module")
def served(finished: Project) -> Iterator[Endpoint]:
    """The registered model behind `mlflow models serve`."""
    log = finished.root / "serve.log"
    with serve(
        finished.root, finished.environment(), "models:/person-attributes@champion", log
    ) as endpoint:
        yield endpoint


def test_the_served_model_agrees_with_the_evaluation(finished: Project, served: Endpoint) -> None:
    predictions = pd.read_csv(
        finished.root / "reports/evaluation/predictions.csv", keep_default_na=False
    )
    records = pd.read_csv(finished.root / "data/records/records.csv", index_col="row")
    images = [finished.root / "data/sample" / name for name in records["image"]]
    encoded = [{"image": encode(images[row])} for row in predictions["row"]]
    status, answers = served.ask({"dataframe_records": encoded})
    assert status == 200
    for answer, (_, expected) in zip(answers, predictions.iterrows(), strict=True):
        for head in read_params(finished.params_file).heads:
            assert answer[head]["label"] == expected[f"{head}_pred"]
            assert answer[head]["probability"] == pytest.approx(expected[f"{head}_prob"], abs=1e-4)


def test_predict_gives_the_answers_of_the_server(
    finished: Project, served: Endpoint, tmp_path: Path
) -> None:
    output = tmp_path / "predictions.csv"
    finished.cli("predict", "data/sample/resized", str(output))
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:20]
    for row in rows:
        image = encode(finished.root / row["path"])
        _, (answer,) = served.ask({"dataframe_records": [{"image": image}]})
        assert (answer.pop("error"), answer.pop("reason")) == ("", "")
        assert row["error"] == ""
        for head, prediction in answer.items():
            assert prediction["label"] == row[head]
            assert prediction["probability"] == float(row[f"{head}_probability"])


def test_an_excluded_head_is_in_no_answer(project: Project) -> None:
    change_params(project.params_file, {"registry.serving.excluded_heads": ["emotion"]})
    project.cli("register")
    model = "models:/person-attributes/2"
    project.cli("predict", "data/sample/resized/1.jpg", "labels.csv", "--model", model)
    (row,) = csv.DictReader((project.root / "labels.csv").read_text().splitlines())
    assert row["error"] == ""
    assert {"gender", "age", "bag"} < set(row)
    assert not [column for column in row if column.startswith("emotion")]


def test_an_8_bit_network_is_registered_if_it_passes_its_conditions(project: Project) -> None:
    gate = "registry.gate"
    lenient = {f"{gate}.max_head_drop": 1.0, f"{gate}.max_calibration_increase": 1.0}
    change_params(project.params_file, {"registry.serving.int8": True, **lenient})
    output = project.cli("register").stdout
    assert "every condition of the gate holds" in output
    assert "not in 8 bits" not in output
    described = str(_client(project).get_model_version("person-attributes", "2").description)
    assert "8 bits: loss in mean accuracy" in described

    change_params(project.params_file, {"registry.serving.int8": False})
    project.cli("register")
    described = str(_client(project).get_model_version("person-attributes", "3").description)
    assert "8 bits" not in described
    quantized, exact = (_download(project, f"/{version}") for version in (2, 3))
    assert _find_network(quantized).stat().st_size < _find_network(exact).stat().st_size


def test_the_registered_model_has_code_and_no_pickle(finished: Project) -> None:
    version = _client(finished).get_model_version_by_alias("person-attributes", "champion")
    artifacts = _download(finished, "@champion")
    names = {path.name for path in artifacts.rglob("*")}
    assert version.tags["gate.promoted"] == "true"
    assert {"network.onnx", "label_map.json", "served_model.py", "input_example.json"} <= names
    assert {"model_card.md", "model_card.html"} <= names
    assert str(version.description).startswith("# person-attributes")
    assert not {name for name in names if name.endswith((".pkl", ".pickle", ".cloudpickle"))}
    assert "tensorflow" not in (artifacts / "requirements.txt").read_text()
