"""Training and distillation of several networks on one device."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import Project, change_params
from tiny_phase import CLASSES, ROWS, build_tiny, make_recipe

from person_attributes.config import Params, read_params, read_yaml
from person_attributes.workspace import Workspace

if keras.backend.backend() != "jax":
    pytest.skip("it trains on JAX, in make backends", allow_module_level=True)

import jax
from experiments.device_augmentation import augment
from experiments.device_training import Group, Member, Settings, Teachers, Trainer, stack
from experiments.distillation import distill, train

from person_attributes.config.training import CosineParams, SgdParams

if TYPE_CHECKING:
    from person_attributes.data.images import Images

NOTHING = dict.fromkeys(
    ("scale", "rotate", "shear", "x", "y", "colour", "multiply", "erase", "area"), 0.0
)
EPOCHS = 2


def _draw_images() -> "Images":
    return np.random.default_rng(5).integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)


def _augment(images: "Images", **ranges: float) -> "Images":
    augmented: Images = np.asarray(augment(jax.random.key(1), images, NOTHING | ranges))
    return augmented


def test_a_policy_without_ranges_only_flips() -> None:
    images = _draw_images()
    augmented = _augment(images)
    is_same = (augmented == images).all((1, 2, 3))
    is_flipped = (augmented == images[:, :, ::-1]).all((1, 2, 3))
    assert (is_same ^ is_flipped).all()
    assert 0 < is_same.sum() < ROWS


def test_images_are_shifted_by_at_most_the_range() -> None:
    images = np.zeros((ROWS, 32, 32, 3), np.uint8)
    images[:, 12:20, 12:20] = 255
    augmented = _augment(images, x=0.25, y=0.125)
    rows = (augmented.astype(float).sum((2, 3)) @ np.arange(32)) / augmented.sum((1, 2, 3))
    columns = (augmented.astype(float).sum((1, 3)) @ np.arange(32)) / augmented.sum((1, 2, 3))
    assert 2 < np.abs(rows - 15.5).max() <= 4.1
    assert 4 < np.abs(columns - 15.5).max() <= 8.1


def test_an_erased_box_covers_at_most_the_largest_area() -> None:
    white = np.full((ROWS, 32, 32, 3), 255, np.uint8)
    erased = (_augment(white, erase=1.0, area=0.2) < 255).any(-1).mean((1, 2))
    assert (erased > 0).all()
    assert 0.1 < erased.max() < 0.25
    assert (_augment(white, erase=0.0, area=0.2) == 255).all()


def _make_trainer(params: Params, targets: Mapping[str, Any]) -> Trainer:
    plan = Path(__file__).parents[2] / "recipes" / "hvc_best.yaml"
    sections = read_yaml(plan)
    settings = Settings(
        make_recipe(params, batch_size=8, learning_rate=0.05).phase,
        SgdParams(**sections["optimizers"]["sgd"]),
        CosineParams(**sections["schedules"]["cosine"] | {"warmup_epochs": 0.5}),
    )
    rows = np.arange(ROWS)
    return Trainer(build_tiny(params), _draw_images(), targets, rows[:16], rows[16:], settings)


def _draw_targets(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {head: np.eye(3, dtype=np.float32)[random.integers(0, 3, ROWS)] for head in CLASSES}


def _train(
    params: Params, targets_seed: int, *shares: float, teacher: int | None, validate_every: int
) -> Group:
    """Trains a network for each share of the answers of a teacher."""
    trainer = _make_trainer(params, _draw_targets(targets_seed))
    teachers = None
    if teacher is not None:
        state = trainer.start(build_tiny(params))
        noise = np.random.default_rng(teacher)
        weights = [weight + noise.normal(0, 0.3, weight.shape) for weight in state.trained]
        teachers = Teachers(trainer.classifier, stack([(weights, state.fixed)] * 2))
    members = {
        Member(f"s{number}", seed=number, weight_decay=0.01, share=share): build_tiny(params)
        for number, share in enumerate(shares)
    }
    group = Group(trainer, members, NOTHING | {"x": 0.1}, teachers)
    train([group], EPOCHS, validate_every, "students")
    return group


def test_a_share_of_each_label_is_the_answer_of_the_teachers(params: Params) -> None:
    """A share of 0 ignores the teachers, and a share of 1 ignores the labels."""

    def answer(labels: int, teacher: int | None, *shares: float) -> list[Any]:
        group = _train(params, labels, *shares, teacher=teacher, validate_every=EPOCHS)
        return [best.answers["left"] for best in group.best if best]

    (alone,) = answer(1, None, 0.0)
    untaught, taught = answer(1, 1, 0.0, 1.0)
    untaught_by_other, taught_by_other = answer(1, 2, 0.0, 1.0)
    untaught_on_other, taught_on_other = answer(2, 1, 0.0, 1.0)
    np.testing.assert_allclose(untaught, alone, atol=1e-4)
    np.testing.assert_allclose(untaught_by_other, alone, atol=1e-4)
    np.testing.assert_allclose(taught_on_other, taught, atol=1e-4)
    for other in (taught, untaught_on_other):
        assert np.abs(other - alone).max() > 1e-2
    assert np.abs(taught_by_other - taught).max() > 1e-2


def test_the_weights_of_the_epoch_with_the_lowest_loss_are_kept(params: Params) -> None:
    group = _train(params, 1, 0.0, 0.5, teacher=1, validate_every=1)
    trainer = _make_trainer(params, _draw_targets(1))
    images = trainer.images[trainer.validation]
    for best, history in zip(group.best, group.history, strict=True):
        assert best is not None
        assert len(history) == EPOCHS
        assert best.metrics["loss"] == min(metrics["loss"] for metrics in history)
        classifier = trainer.assign(best.weights)
        views = [classifier.predict(view, verbose=0) for view in (images, images[:, :, ::-1])]
        mean = {head: (views[0][head] + views[1][head]) / 2 for head in CLASSES}
        assert trainer.score(mean)["loss"] == pytest.approx(best.metrics["loss"], rel=1e-3)


def test_a_generation_on_larger_images_is_taught_by_the_one_before(
    make_project: Callable[[str], Project], tmp_path: Path
) -> None:
    project = make_project("distilled")
    residual = {"model.residual.widths": [8, 16], "model.residual.blocks": [1, 1]}
    phase = {"phases.p1.optimizer": "sgd", "phases.p1.schedule": "cosine"}
    change_params(project.params_file, {"model.backbone": "residual", **residual, **phase})
    for stage in ("sample", "ingest", "encode", "split", "pack 32", "pack 40", "initialize"):
        project.cli(*stage.split())

    def describe(size: int, taught_by: list[str], **networks: float) -> dict[str, Any]:
        members = {
            name: {"seed": 1, "weight_decay": 0.01, "share": share}
            for name, share in networks.items()
        }
        groups = [{"policy": "none", "networks": members}]
        return {"image_size": size, "epochs": 1, "taught_by": taught_by, "groups": groups}

    plan = {
        "validate_every": 1,
        "policies": {"none": NOTHING},
        "generations": {
            "teachers": describe(32, [], t0=0.0, t1=0.0),
            "students": describe(40, ["t1"], s0=0.5),
        },
    }
    distill(Workspace(project.root), read_params(project.params_file), plan, tmp_path)
    files = {path.name for path in tmp_path.glob("*.weights.h5")}
    assert files == {"t0.weights.h5", "t1.weights.h5", "s0.weights.h5"}
    histories = pd.read_csv(tmp_path / "histories.csv")
    assert list(histories["network"]) == ["t0", "t1", "s0"]
    assert np.isfinite(histories[["loss", "training_loss"]]).all(axis=None)
    ensembles = pd.read_csv(tmp_path / "ensembles.csv")
    assert dict(zip(ensembles["generation"], ensembles["networks"], strict=True)) == {
        "teachers": 2,
        "students": 1,
    }
