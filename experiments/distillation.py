"""Trains generations of networks on one GPU, each distilled from the one before.

    KERAS_BACKEND=jax python -m experiments.distillation FOLDER

Run it in a project with `pretrained/params.yaml` as `params.yaml`, after `dvc repro encode split
pack initialize`. It needs JAX: `jax[cuda13]` on a GPU. `distillation.yaml` lists the networks.

Students learn a mix of the labels and the mean answer of their teachers (Hinton et al. 2015, at a
temperature of 1), which see the same augmented images (Beyer et al. 2022, arXiv 2106.05237). They
start from random weights, and teach the next generation (Furlanello et al. 2018, arXiv 1805.04770).

FOLDER gets the best weights of each network, `histories.csv`, and `ensembles.csv` with the
validation metrics of the mean answer of each generation.

To evaluate, register and serve a network, set `model.starting_weights.source` to its file, and
train a phase that keeps it: one epoch, `trainable: heads`, no augmentation, a rate of 1.0e-6.
"""

import argparse
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from tqdm import trange

from experiments.device_training import (
    Answers,
    Best,
    Group,
    Member,
    Settings,
    Teachers,
    Trainer,
    stack,
)
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
class Trained:
    """A network after its training.

    Attributes:
        trainer: It trained the network.
        history: The metrics of each validated epoch.
        best: The epoch with the lowest validation loss.
    """

    trainer: Trainer
    history: list[dict[str, float]]
    best: Best


@dataclass(frozen=True)
class Distillation:
    """The training of several generations.

    Attributes:
        workspace: The project; its data stages have run.
        params: The network, and the settings that all networks share.
        plan: The content of `distillation.yaml`.
    """

    workspace: Workspace
    params: Params
    plan: Mapping[str, Any]

    def train_generation(self, name: str, networks: Mapping[str, Trained]) -> dict[str, Trained]:
        """Trains the networks of a generation.

        Args:
            name: A key of `generations`.
            networks: The networks of earlier generations.
        """
        section = self.plan["generations"][name]
        trainer = self._make_trainer(section["image_size"])
        teachers = None
        if taught_by := [networks[teacher] for teacher in section["taught_by"]]:
            weights = stack([teacher.best.weights for teacher in taught_by])
            teachers = Teachers(taught_by[0].trainer.classifier, weights)
        groups = [self._make_group(trainer, group, teachers) for group in section["groups"]]
        train(groups, section["epochs"], self.plan["validate_every"], name)
        return {
            member.name: Trained(trainer, history, best)
            for group in groups
            for member, history, best in zip(group.members, group.history, group.best, strict=True)
            if best
        }

    def _make_group(
        self, trainer: Trainer, section: Mapping[str, Any], teachers: Teachers | None
    ) -> Group:
        members = {}
        for name, settings in section["networks"].items():
            member = Member(name, **settings)
            keras.utils.set_random_seed(member.seed)
            members[member] = build_network(self.workspace, self.params, trainer.image_size)
        return Group(trainer, members, self.plan["policies"][section["policy"]], teachers)

    def _make_trainer(self, image_size: int | str) -> Trainer:
        """Loads the data of the project, and the settings of its first phase."""
        dataset = Dataset(self.workspace, image_size)
        train, validation = (dataset.part(part).positions for part in (TRAIN, VALIDATION))
        used = np.concatenate([train, validation])
        for head, target in dataset.targets.items():
            if not target[used].any(axis=1).all():
                raise TrainingError(
                    f"{head}: expected a label in every row. Remove the other rows."
                )
        return Trainer(
            build_network(self.workspace, self.params, image_size),
            dataset.images[used],
            {head: target[used] for head, target in dataset.targets.items()},
            np.arange(len(train)),
            len(train) + np.arange(len(validation)),
            read_settings(self.params),
        )


def distill(workspace: Workspace, params: Params, plan: Mapping[str, Any], output: Path) -> None:
    """Trains all generations, and writes the best weights of each network.

    Raises:
        TrainingError: If Keras has another backend than JAX, a label is missing, or the first phase
            has another optimizer or schedule: correct params.yaml or KERAS_BACKEND.
    """
    if keras.backend.backend() != "jax":
        raise TrainingError(
            f"KERAS_BACKEND: expected jax. Received: {keras.backend.backend()}. Set it to jax."
        )
    configure_runtime(params.training)
    distillation = Distillation(workspace, params, plan)
    output.mkdir(parents=True, exist_ok=True)
    generations: dict[str, dict[str, Trained]] = {}
    for name in plan["generations"]:
        generations[name] = distillation.train_generation(name, ChainMap(*generations.values()))
        for network, trained in generations[name].items():
            with writing(output / f"{network}.weights.h5") as path:
                trained.trainer.assign(trained.best.weights).save_weights(path)
        _write_metrics(generations, output)


def read_settings(params: Params) -> Settings:
    """Reads the settings that all networks share from the first phase."""
    name, phase = next(iter(params.phases.items()))
    recipe = params.recipe(name)
    optimizer, schedule = recipe.optimizer, recipe.schedule
    if not isinstance(optimizer, SgdParams) or not isinstance(schedule, CosineParams):
        raise TrainingError(
            f"phases.{name}: expected the optimizer sgd and the schedule cosine. Received: "
            f"{optimizer.kind} and {schedule.kind}. Copy pretrained/params.yaml."
        )
    return Settings(phase, optimizer, schedule)


def train(groups: Sequence[Group], epochs: int, validate_every: int, label: str) -> None:
    """Trains groups side by side: an epoch of each, then the next one."""
    with trange(epochs, desc=label, unit="epoch", disable=None) as bar:
        for epoch in bar:
            for group in groups:
                validates = (epoch + 1) % validate_every == 0 or epoch + 1 == epochs
                group.run_epoch(epoch, epochs, validates=validates)
            if best := [best for group in groups for best in group.best if best]:
                bar.set_postfix(lowest=f"{min(one.metrics['loss'] for one in best):.3f}")


def _write_metrics(generations: Mapping[str, Mapping[str, Trained]], output: Path) -> None:
    rows = [
        {"network": name, **metrics}
        for generation in generations.values()
        for name, trained in generation.items()
        for metrics in trained.history
    ]
    ensembles = []
    for name, generation in generations.items():
        answers = [trained.best.answers for trained in generation.values()]
        mean: Answers = {
            head: np.mean([answer[head] for answer in answers], axis=0) for head in answers[0]
        }
        trainer = next(iter(generation.values())).trainer
        ensembles.append({"generation": name, "networks": len(answers), **trainer.score(mean)})
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
