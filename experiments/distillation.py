"""Trains an ensemble of networks on one GPU and distills it into others.

    KERAS_BACKEND=jax python -m experiments.distillation FOLDER

Run it in a project with `pretrained/params.yaml` as `params.yaml`, after `dvc repro encode split
pack initialize`. It needs JAX: `jax[cuda13]` on a GPU. `distillation.yaml` lists the networks.

The students learn a mix of the labels and the mean answer of the teachers (Hinton et al. 2015, at a
temperature of 1), which see the same augmented images (Beyer et al. 2022, arXiv 2106.05237).

FOLDER gets the best weights of each student, `histories.csv`, and `ensembles.csv` with the
validation metrics of the teachers' and of the students' mean answers.

To evaluate, register and serve a student, set `model.starting_weights.source` to its file, and
train a phase that keeps it: one epoch, `trainable: heads`, no augmentation, a rate of 1.0e-6.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from tqdm import trange

from experiments.device_training import Answers, Best, Group, Member, Settings, Trainer, stack
from person_attributes.config import Params, read_params, read_yaml
from person_attributes.config.training import CosineParams, SgdParams
from person_attributes.data.dataset import Dataset
from person_attributes.data.split import TRAIN, VALIDATION
from person_attributes.errors import PersonAttributesError, TrainingError
from person_attributes.files import writing
from person_attributes.pipeline.networks import build_network
from person_attributes.training.precision import configure_runtime
from person_attributes.workspace import Workspace

_PLAN = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Distillation:
    """The training of teachers and students.

    Attributes:
        workspace: The project; its data stages have run.
        params: The network, and the settings that all networks share.
        plan: The content of `distillation.yaml`.
        trainer: Trains the networks.
    """

    workspace: Workspace
    params: Params
    plan: Mapping[str, Any]
    trainer: Trainer

    def train_teachers(self) -> list[Group]:
        """Trains each teacher on batches of its own."""
        section = self.plan["teachers"]
        groups = [
            self._make_group({name: settings}, settings["policy"])
            for name, settings in section["networks"].items()
        ]
        self._train(groups, section["epochs"], "teachers")
        return groups

    def train_students(self, teachers: Sequence[Group]) -> Group:
        """Trains the students on the same batches, with the best weights of the teachers."""
        section = self.plan["students"]
        weights = stack([best.weights for best in _list_best(teachers)])
        group = self._make_group(section["networks"], section["policy"], weights)
        self._train([group], section["epochs"], "students")
        return group

    def _make_group(self, networks: Mapping[str, Any], policy: str, teachers: Any = None) -> Group:
        members = {}
        for name, settings in networks.items():
            member = Member(name, **{k: v for k, v in settings.items() if k != "policy"})
            keras.utils.set_random_seed(member.seed)
            image_size = self.trainer.settings.phase.image_size
            members[member] = build_network(self.workspace, self.params, image_size)
        return Group(self.trainer, members, self.plan["policies"][policy], teachers)

    def _train(self, groups: Sequence[Group], epochs: int, label: str) -> None:
        train(groups, epochs, self.plan["validate_every"], label)


def distill(workspace: Workspace, params: Params, plan: Mapping[str, Any], output: Path) -> None:
    """Trains the teachers, then the students, and writes the students' best weights.

    Raises:
        TrainingError: If Keras has another backend than JAX, a label is missing, or the first phase
            has another optimizer or schedule: correct params.yaml or KERAS_BACKEND.
    """
    configure_runtime(params.training)
    trainer = make_trainer(workspace, params)
    distillation = Distillation(workspace, params, plan, trainer)
    teachers = distillation.train_teachers()
    students = distillation.train_students(teachers)
    output.mkdir(parents=True, exist_ok=True)
    for member, best in zip(students.members, _list_best([students]), strict=True):
        with writing(output / f"{member.name}.weights.h5") as path:
            trainer.assign(best.weights).save_weights(path)
    _write_metrics(trainer, {"teachers": teachers, "students": [students]}, output)


def make_trainer(workspace: Workspace, params: Params) -> Trainer:
    """Loads the data of a project, and the settings of its first phase."""
    name, phase = next(iter(params.phases.items()))
    recipe = params.recipe(name)
    optimizer, schedule = recipe.optimizer, recipe.schedule
    if keras.backend.backend() != "jax":
        raise TrainingError(
            f"KERAS_BACKEND: expected jax. Received: {keras.backend.backend()}. Set it to jax."
        )
    if not isinstance(optimizer, SgdParams) or not isinstance(schedule, CosineParams):
        raise TrainingError(
            f"phases.{name}: expected the optimizer sgd and the schedule cosine. Received: "
            f"{optimizer.kind} and {schedule.kind}. Copy pretrained/params.yaml."
        )
    dataset = Dataset(workspace, phase.image_size)
    train, validation = (dataset.part(part).positions for part in (TRAIN, VALIDATION))
    used = np.concatenate([train, validation])
    for head, target in dataset.targets.items():
        if not target[used].any(axis=1).all():
            raise TrainingError(f"{head}: expected a label in every row. Remove the other rows.")
    return Trainer(
        build_network(workspace, params, phase.image_size),
        dataset.images[used],
        {head: target[used] for head, target in dataset.targets.items()},
        np.arange(len(train)),
        len(train) + np.arange(len(validation)),
        Settings(phase, optimizer, schedule),
    )


def train(groups: Sequence[Group], epochs: int, validate_every: int, label: str) -> None:
    """Trains groups side by side: an epoch of each, then the next one."""
    with trange(epochs, desc=label, unit="epoch", disable=None) as bar:
        for epoch in bar:
            for group in groups:
                validates = (epoch + 1) % validate_every == 0 or epoch + 1 == epochs
                group.run_epoch(epoch, epochs, validates=validates)
            if best := _list_best(groups):
                bar.set_postfix(lowest=f"{min(one.metrics['loss'] for one in best):.3f}")


def _list_best(groups: Sequence[Group]) -> list[Best]:
    return [best for group in groups for best in group.best if best]


def _write_metrics(trainer: Trainer, groups: Mapping[str, Sequence[Group]], output: Path) -> None:
    rows = [
        {"network": member.name, **metrics}
        for part in groups.values()
        for group in part
        for member, history in zip(group.members, group.history, strict=True)
        for metrics in history
    ]
    ensembles = []
    for name, part in groups.items():
        answers = [best.answers for best in _list_best(part)]
        mean: Answers = {
            head: np.mean([answer[head] for answer in answers], axis=0) for head in answers[0]
        }
        ensembles.append({"ensemble": name, "networks": len(answers), **trainer.score(mean)})
    for table, file in ((rows, "histories.csv"), (ensembles, "ensembles.csv")):
        with writing(output / file) as path:
            pd.DataFrame(table).to_csv(path, index=False, lineterminator="\n")


def main() -> None:
    """Trains the networks of `distillation.yaml` in the project of the working directory."""
    parser = argparse.ArgumentParser("python -m experiments.distillation")
    parser.add_argument("output", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    workspace = Workspace(Path.cwd())
    try:
        distill(workspace, read_params(workspace.params), read_yaml(_PLAN), options.output)
    except PersonAttributesError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
