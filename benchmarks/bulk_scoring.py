"""Many images by a registered model: one process, all cores, a local Spark.

    python -m benchmarks.bulk_scoring IMAGES     # Spark only where `make spark` has installed it

Drawn people of 224 px, each under ten names, and a small network of 64 px with random weights.
Every way is a process of its own, from its start to the finished file.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from benchmarks.figures import Figure
from benchmarks.watching import Watched, watch
from person_attributes.workspace import Workspace

_RECIPE = Path(__file__).parent.parent / "recipes" / "sample.yaml"
_CHAMPION = "models:/person-attributes@champion"
_IMAGES, _NAMES = 100_000, 10
_IMAGE_SIZE = 64


def measure() -> Iterator[Figure]:
    """Holds all cores against one, and against Spark where it is installed."""
    ways = score_many(_IMAGES)
    rates = {way: _IMAGES / watched.wall for way, watched in ways.items()}
    ours = rates.pop("all cores")
    for way, rate in rates.items():
        what = f"{_IMAGES:,} images: all cores against {way}"
        yield Figure(what, ours, rate, "images/s", ours / rate, None)


def score_many(images: int) -> dict[str, Watched]:
    """Scores as many images in each way; gives what each took."""
    ways = {"one process": "alone", "all cores": "together", "local Spark": "spark"}
    if importlib.util.find_spec("pyspark") is None:
        del ways["local Spark"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _draw_photos(folder / "photos", images)
        watch(("benchmarks.bulk_scoring", "register"), folder)
        return {
            way: watch(("benchmarks.bulk_scoring", task), folder)
            for way, task in tqdm(ways.items(), "scoring", disable=None)
        }


def _draw_photos(folder: Path, count: int) -> None:
    from person_attributes.data.sample import draw_sample

    folder.mkdir()
    draw_sample(folder, count // _NAMES, 224, seed=1)
    for image in list((folder / "resized").iterdir()):
        for number in range(1, _NAMES):
            image.with_stem(f"{image.stem}_{number}").hardlink_to(image)


def _register() -> None:
    """Registers a network of four blocks of a layer each, as champion of a store in this folder."""
    from benchmarks.people import register_network
    from person_attributes.config import read_params
    from person_attributes.labels import LabelMap
    from person_attributes.modeling.classifier import Normalization, build_classifier
    from person_attributes.tracking.connection import connect

    workspace = Workspace(Path.cwd())
    workspace.params.write_bytes(_RECIPE.read_bytes())
    params = read_params(workspace.params).change({"model.blocks": [1, 1, 1, 1]})
    label_map = LabelMap.declare(params.heads)
    normalization = Normalization([128.0] * 3, [64.0] * 3)
    network = build_classifier(_IMAGE_SIZE, label_map.class_counts, params.model, normalization)
    weights = Path("n.weights.h5")
    network.save_weights(weights)
    client, name = connect(workspace), params.registry.model_name
    version = register_network(network, label_map, weights, name, workspace.root)
    client.set_registered_model_alias(name, params.registry.alias, version)


def _score_alone() -> None:
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    _score("alone.parquet")


def _score_together() -> None:
    _score("together.parquet")


def _score(output: str) -> None:
    from person_attributes.cli import main

    sys.exit(main(["predict", "photos/resized", output]))


def _score_on_spark() -> None:
    import mlflow
    from pyspark.sql import SparkSession

    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # Small files: by itself Spark would make a task of each 32.
        "spark.sql.files.openCostInBytes": "65536",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
    }
    spark = SparkSession.builder.master("local[*]").config(map=settings).getOrCreate()
    answer = mlflow.pyfunc.spark_udf(
        spark, _CHAMPION, params={"on_error": "answer"}, env_manager="local"
    )
    table = spark.read.format("binaryFile").load("photos/resized")
    said = table.select("path", answer(table["content"]).alias("said"))
    said.write.mode("overwrite").parquet("spark.parquet")


_TASKS = {
    "register": _register,
    "alone": _score_alone,
    "together": _score_together,
    "spark": _score_on_spark,
}


def format_table(images: int, ways: dict[str, Watched]) -> str:
    """Writes a Markdown table of what each way took."""
    heads = ["seconds", "images/s", "processor's seconds", "MB"]
    lines = [f"| {images:,} images | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for way, one in ways.items():
        figures = (one.wall, images / one.wall, one.seconds, one.megabytes)
        lines += [f"| {way} | {' | '.join(f'{figure:,.0f}' for figure in figures)} |"]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1] in _TASKS:
        _TASKS[sys.argv[1]]()
    else:
        wanted = int(sys.argv[1])
        print(format_table(wanted, score_many(wanted)))
