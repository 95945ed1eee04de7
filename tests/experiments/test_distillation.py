"""A phase learns the mean answers of several networks."""

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
from conftest import Project
from experiments.distillation import SoftBatches, distill, load_teacher

from person_attributes.config import read_params
from person_attributes.data.batches import ImageBatches
from person_attributes.data.dataset import Dataset
from person_attributes.data.split import TRAIN
from person_attributes.pipeline.networks import build_network
from person_attributes.workspace import Workspace

pytestmark = pytest.mark.pipeline

ROWS = 4


def _load(workspace: Workspace, phase: str) -> keras.Model:
    params = read_params(workspace.params)
    network = build_network(workspace, params, params.phases[phase].image_size)
    network.load_weights(workspace.weights(phase))
    return network


def _soften(workspace: Workspace, share: float, image_size: int | str) -> SoftBatches:
    """Makes batches whose teacher is the mean of the networks of the first and the third phase."""
    dataset, params = Dataset(workspace, image_size), read_params(workspace.params)
    positions = dataset.part(TRAIN).positions
    batches = ImageBatches(
        dataset.images, dataset.targets, positions, ROWS, augmenter=None, seed=None
    )
    teachers = [workspace.weights("p1"), workspace.weights("p3")]
    return SoftBatches(batches, load_teacher(workspace, params, "p2", teachers), share)


def test_a_share_of_each_label_is_the_mean_answer_of_the_teachers(project: Project) -> None:
    workspace = Workspace(project.root)
    batches = _soften(workspace, 0.75, read_params(workspace.params).phases["p1"].image_size)
    images, soft, _ = batches[0]
    answers: list[dict[str, npt.NDArray[np.float32]]] = [
        _load(workspace, phase).predict_on_batch(images) for phase in ("p1", "p3")
    ]
    for head, target in batches.targets.items():
        mean = (answers[0][head] + answers[1][head]) / 2
        expected = 0.25 * target[batches.positions[:ROWS]] + 0.75 * mean
        np.testing.assert_allclose(soft[head], expected, atol=1e-5)


def test_a_phase_learns_from_teachers_of_another_image_size(
    project: Project, tmp_path: Path
) -> None:
    workspace, output = Workspace(project.root), tmp_path / "distilled.weights.h5"
    params = read_params(workspace.params)
    assert params.phases["p4"].image_size != params.phases["p3"].image_size
    teachers = [workspace.weights("p1"), workspace.weights("p3")]
    distill(workspace, params, "p4", 0.75, teachers, output)
    student = build_network(workspace, params, params.phases["p4"].image_size)
    student.load_weights(output)
    for phase in ("p3", "p4"):
        pairs = zip(student.get_weights(), _load(workspace, phase).get_weights(), strict=True)
        assert any(not np.array_equal(ours, theirs) for ours, theirs in pairs), phase
