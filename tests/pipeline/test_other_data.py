"""Other data, heads, phases and hyperparameters need changes to `params.yaml` only."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Project, change_params
from mlflow.tracking import MlflowClient
from PIL import Image
from tiny_model import Registered

from person_attributes.commands.demo.attention import Attention
from person_attributes.config import read_params
from person_attributes.data.dataset import Dataset
from person_attributes.data.split import VALIDATION
from person_attributes.errors import RegistryError
from person_attributes.evaluation.predictions import Predictions
from person_attributes.pipeline.networks import build_network
from person_attributes.registry.weights import fetch_weights
from person_attributes.workspace import Workspace

STAGES = [
    "sample", "ingest", "encode", "split", "pack@32", "inspect", "initialize", "train@all",
    "train@heads", "select", "evaluate", "register",
]  # fmt: skip


@pytest.fixture(scope="module")
def signs(make_project: Callable[[str], Project]) -> Project:
    """Other data, heads and phases: missing labels, a stratified split, test rows, an ensemble."""
    project = make_project("signs")
    _draw_signs(project.root / "signs")
    phase = {"trainable": "all", "augmentation": "standard", "learning_rate": 0.01, "epochs": 2}
    phase |= {"batch_size": 8, "loss": "smooth", "optimizer": "adamw", "schedule": "cosine"}
    phase |= {"starts_from": "initial", "image_size": 32}
    changes = {
        "data.source": "signs",
        "data.annotations": "labels.csv",
        "data.image_column": "file",
        "heads": {
            "shape": {"column": "form", "classes": ["round/oval", "None"]},
            "paint": {"column": "paint", "classes": ["red", "green", "blue"]},
        },
        "split.method": "stratified",
        "split.near_duplicates.across_parts": "report",  # all signs are near-duplicates
        "split.validation_share": 0.2,
        "split.test_share": 0.25,
        "data.image_sizes": [32],
        "phases": {
            "all": phase,
            "heads": phase | {"starts_from": "all", "trainable": "heads"},
        },
        "model.neck": "gem",
        "model.normalization.method": "image",
        "evaluation.flips": True,
        "sweep.search": {},
        "evaluation.phases": ["all", "heads"],
        "registry.model_name": "signs",
    }
    change_params(project.params_file, changes)
    project.execute(*STAGES)
    return project


def test_other_data_needs_only_other_parameters(signs: Project) -> None:
    metrics = json.loads((signs.root / "reports/metrics.json").read_text())
    assert {"shape_accuracy", "paint_accuracy", "mean_accuracy"} <= set(metrics)
    assert "gender_accuracy" not in metrics
    split = json.loads((signs.root / "data/split.json").read_text())
    assert [len(split[part]) for part in ("train", "validation", "test")] == [22, 8, 10]
    assert metrics["test_rows"] == 10
    labels = pd.read_csv(signs.root / "signs/labels.csv", keep_default_na=False)
    labelled = (labels["paint"] != "").loc[split["validation"]].sum()
    heads = pd.read_csv(signs.root / "reports/heads.csv", index_col="head")
    assert 0 < labelled < 8
    assert heads["rows"].to_dict() == {"shape": 8, "paint": labelled}
    summary = signs.cli("summarize").stdout
    assert "signs version 1" in summary
    assert "shape" in summary
    assert "10 test rows (held out)" in summary


def test_an_ensemble_predicts_the_mean_of_its_phases(signs: Project) -> None:
    workspace, params = Workspace(signs.root), read_params(signs.params_file)
    predictions = Predictions.read(workspace.predictions)
    dataset = Dataset(workspace, 32)
    images = dataset.images[dataset.part(VALIDATION).positions]
    answers = []
    for phase in ("all", "heads"):
        network = build_network(workspace, params, 32)
        network.load_weights(workspace.weights(phase))
        answers += [network(images), network(images[:, :, ::-1])]  # evaluation.flips
    for head, y_prob in predictions.y_prob.items():
        each = [np.array(answer[head]) for answer in answers]
        assert np.ptp(each, axis=0).max() > 1e-3
        np.testing.assert_allclose(y_prob, np.mean(each, axis=0), atol=1e-5)


def test_an_ensemble_is_registered_as_one_model(signs: Project, tmp_path: Path) -> None:
    model = "models:/signs/1"
    signs.cli("predict", "signs/1.png", "out.csv", "--model", model)
    assert pd.read_csv(signs.root / "out.csv")["paint"].isin(["red", "green", "blue"]).all()
    with Registered(signs.root).store():
        card = str(MlflowClient().get_model_version("signs", "1").description)
        assert "the mean of the probabilities of 2 networks" in card
        heat = Attention(model).explain(Image.new("RGB", (50, 90), "red"), {"paint": "red"})
        assert heat["paint"].ndim == 2
        both = "an ensemble of all.weights.h5, heads.weights.h5. Name one file"
        with pytest.raises(RegistryError, match=both):
            fetch_weights(model, tmp_path / "both")
        first = fetch_weights(f"{model}/artifacts/all.weights.h5", tmp_path / "one")
        assert first.name == "all.weights.h5"


def test_forced_repro_writes_identical_outputs(signs: Project) -> None:
    """Stages in separate processes write the same outputs as stages in one process."""
    before = (signs.root / "dvc.lock").read_bytes()
    executed = signs.repro("--force", "sample", "inspect", "evaluate")  # `register` has no outputs
    assert sorted(executed) == sorted(set(STAGES) - {"register"})
    assert (signs.root / "dvc.lock").read_bytes() == before


def _draw_signs(folder: Path) -> None:
    """Draws tall PNG and wide BMP images, and a CSV file with other columns and empty labels."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = []
    for number in range(40):
        paint = number % 3
        pixels = random.integers(0, 60, (90, 50, 3) if number % 2 else (48, 120, 3), dtype=np.uint8)
        pixels[10:40, 10:40, paint] = 255
        name = f"{number}.{'png' if number % 2 else 'bmp'}"
        Image.fromarray(pixels).save(folder / name)
        label = "" if number % 4 == 0 else ["red", "green", "blue"][paint]
        rows.append((name, label, ["round/oval", "None"][number % 2]))
    table = pd.DataFrame(rows, columns=["file", "paint", "form"])
    table.to_csv(folder / "labels.csv", index=False)
