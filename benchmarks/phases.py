"""The five phases of `recipes/hvc.yaml` on few images and epochs, against the notebook.

Ours are five processes, like those of `dvc repro`, each with imports, tracing, checkpoints and
MLflow. The rival is one process that compiles the network for each phase, like the notebook.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.comparison import Comparison
from benchmarks.people import RECIPE, draw_people
from person_attributes.framing import height_and_width

PEOPLE, EPOCHS = 256, 2
_COMMAND = [sys.executable, "-m", "person_attributes"]


def measure() -> Iterator[Comparison]:
    """Compares the total seconds of all phases."""
    people = draw_people(PEOPLE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_params(folder, people.folder)
        for stage in ("ingest", "encode", "split", "pack 100", "pack 200", "initialize"):
            _call(folder, [*_COMMAND, *stage.split()])
        began = time.perf_counter()
        for phase in RECIPE.phases:
            _call(folder, [*_COMMAND, "train", phase])
        ours = time.perf_counter() - began
    began = time.perf_counter()
    _call(Path.cwd(), [sys.executable, "-m", "benchmarks.phases", str(people.folder)])
    rival = time.perf_counter() - began
    name = f"five phases, {PEOPLE} images, {EPOCHS} epochs each"
    yield Comparison(name, ours, rival, "s", rival / ours, 2)


def _write_params(folder: Path, source: Path) -> None:
    yaml = YAML()
    recipe = Path(__file__).parent.parent / "recipes" / "hvc.yaml"
    params = yaml.load(recipe.read_text(encoding="utf-8"))
    params["data"]["source"] = str(source)
    for phase in params["phases"].values():
        phase["epochs"] = EPOCHS
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def _call(folder: Path, command: list[str]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")


def _run(folder: Path) -> None:
    """Trains all phases like the notebook."""
    import keras
    import pandas as pd
    from sklearn.model_selection import train_test_split

    from benchmarks.article import ArticleBatches, build_network, compile_network
    from benchmarks.people import encode

    table = pd.read_csv(folder / "hvc_annotations.csv", keep_default_na=False)
    parts = train_test_split(table, test_size=0.15, random_state=42)
    counts = {head: len(section.classes) for head, section in RECIPE.heads.items()}
    weights = Path(tempfile.mkdtemp()) / "weights.weights.h5"
    network, image_size = None, 0
    for phase in RECIPE.phases.values():
        phase_size, _ = height_and_width(phase.image_size)
        if network is None or phase_size != image_size:
            larger = build_network(phase_size, counts)
            if network is not None:
                larger.load_weights(weights)
            network, image_size = larger, phase_size
        for layer in network.layers:
            is_tower = layer.name in counts or layer.output.shape[1:] == (128,)
            layer.trainable = phase.trainable == "all" or is_tower
        compile_network(network, phase.learning_rate)
        train, validation = (
            ArticleBatches(folder, part, encode(RECIPE, part), image_size, 32, is_augmented)
            for part, is_augmented in zip(parts, (phase.augmentation != "none", False), strict=True)
        )
        network.fit(
            train,
            validation_data=validation,
            epochs=EPOCHS,
            verbose=0,
            callbacks=[
                keras.callbacks.ModelCheckpoint(
                    weights, monitor="val_loss", save_best_only=True, save_weights_only=True
                ),
                keras.callbacks.ReduceLROnPlateau(),
                keras.callbacks.EarlyStopping(patience=8),
            ],
        )
        network.load_weights(weights)


if __name__ == "__main__":
    _run(Path(sys.argv[1]))
