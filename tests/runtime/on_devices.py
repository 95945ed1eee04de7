"""Trains small phases on several devices: `python on_devices.py DEVICES COUNT FOLDER RECIPE...`.

It is a separate process, since logical devices are configured before TensorFlow first computes.
It writes the weights of each recipe to FOLDER, and prints the number of devices and the losses.
"""

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from person_attributes.config import Params, Recipe, read_params
from person_attributes.data.augment import Augmenter
from person_attributes.data.batches import ImageBatches
from person_attributes.modeling.classifier import Normalization, build_classifier
from person_attributes.runtime.checkpoint import Checkpoint
from person_attributes.runtime.devices import gather_devices, read_cluster
from person_attributes.training.phase import train_phase

BATCH = 8
ROWS = 22 if keras.backend.backend() == "jax" else 21
"""The last batch has 5 rows, 3 and 2 on two devices; 6 on JAX, which needs equal parts."""

CLASSES = {"left": 3, "right": 3}

ADAM_RATE = 0.001
"""Small: at 0.01, a difference of 1e-7 grows to 1e-2 in three epochs even on one device."""

RECIPES: dict[str, dict[str, object]] = {
    "sgd": {"optimizer": "sgd", "augmentation": "standard"},
    "adam": {"optimizer": "adamw", "learning_rate": ADAM_RATE, "loss": "learned"},
    "frozen": {"optimizer": "adam", "learning_rate": ADAM_RATE, "trainable": "heads"},
    "frozen_augmented": {"optimizer": "sgd", "trainable": "heads", "augmentation": "standard"},
}

OPTIMIZERS = {
    "sgd": {"clip_norm": 0.5, "accumulate": 2, "ema_momentum": 0.9},
    "adamw": {"clip_norm": 0.5, "ema_momentum": 0.9, "epsilon": 1.0e-3},
}


def main() -> None:
    devices, count, folder, *recipes = sys.argv[1:]
    _divide_processor(int(count))
    params = read_params(Path(__file__).parents[2] / "recipes" / "sample.yaml")
    number = read_cluster()[0] if devices == "hosts" else 0
    with gather_devices(devices) as found:  # type: ignore[arg-type]
        losses = {
            name: _train(params, _make_recipe(params, name), Path(folder) / name, number)
            for name in recipes
        }
    print(json.dumps({"devices": found, "losses": losses}))


def _divide_processor(count: int) -> None:
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", count)
    else:
        import tensorflow

        cpu = tensorflow.config.list_physical_devices("CPU")[0]
        parts = [tensorflow.config.LogicalDeviceConfiguration() for _ in range(count)]
        tensorflow.config.set_logical_device_configuration(cpu, parts)


def _make_recipe(params: Params, name: str) -> Recipe:
    changes = {"batch_size": BATCH, "epochs": 3, "schedule": "constant", "learning_rate": 0.01}
    phase = params.phases["p1"].model_copy(update=changes | RECIPES[name])
    optimizers = {
        key: value.model_copy(update=OPTIMIZERS.get(key, {}))
        for key, value in params.optimizers.items()
    }
    phases = params.phases | {"p1": phase}
    return params.model_copy(update={"phases": phases, "optimizers": optimizers}).recipe("p1")


def _train(params: Params, recipe: Recipe, out: Path, number: int) -> list[float]:
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)
    targets = {head: np.eye(3, dtype=np.float32)[random.integers(0, 3, ROWS)] for head in CLASSES}
    targets["left"][4] = 0  # a row without a label

    def make_batches(seed: int | None) -> ImageBatches:
        policy = recipe.augmentation
        augmenter = Augmenter(policy) if seed is not None and policy.augmenters else None
        return ImageBatches(images, targets, np.arange(ROWS), BATCH, augmenter=augmenter, seed=seed)

    keras.utils.set_random_seed(3)
    residual = params.model.residual.model_copy(update={"widths": (16,), "blocks": (1,)})
    changes = {"backbone": "residual", "residual": residual, "dropout": 0.0}
    model = params.model.model_copy(update=changes)
    normalization = Normalization([128.0] * 3, [64.0] * 3)
    classifier = build_classifier(32, CLASSES, model, normalization)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), "p1", "0" * 64, 60)
        with checkpoint.lock():
            trained = train_phase(
                classifier, make_batches(1), make_batches(None), recipe, checkpoint, []
            )
    if number == 0:
        np.savez(out, *classifier.get_weights())
    return [epoch["loss"] for epoch in trained.history] + [
        epoch["val_loss"] for epoch in trained.history
    ]


if __name__ == "__main__":
    main()
