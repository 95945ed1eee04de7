"""Other data, heads, phases and hyperparameters need changes to `params.yaml` only."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Project, change_params
from PIL import Image

STAGES = [
    "sample", "ingest", "encode", "split", "pack@32", "inspect", "initialize", "train@all",
    "evaluate", "register",
]  # fmt: skip


@pytest.fixture(scope="module")
def signs(make_project: Callable[[str], Project]) -> Project:
    """Other data, heads and phases, with missing labels, a stratified split and test rows."""
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
        "phases": {"all": phase},
        "model.neck": "gem",
        "model.normalization.method": "image",
        "evaluation.flips": True,
        "sweep.search": {},
        "evaluation.phase": "all",
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
