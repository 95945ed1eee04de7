"""Scoring of many images by a registered model: on one core, on all cores, and on local Spark.

    python -m benchmarks.bulk_scoring IMAGES     # Spark needs `make spark`

The images are drawn people of 224 px, each under ten names. The network is small, takes 64 px and
has random weights. Each method is one process, measured from its start to the finished file.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from benchmarks.comparison import Comparison
from benchmarks.watching import Watched, watch
from person_attributes.workspace import Workspace

_RECIPE = Path(__file__).parent.parent / "recipes" / "sample.yaml"
_CHAMPION = "models:/person-attributes@champion"
_IMAGES, _NAMES = 100_000, 10
_IMAGE_SIZE = 64


def measure() -> Iterator[Comparison]:
    """Compares all cores with one core, and with Spark if it is installed."""
    usage = score_many(_IMAGES)
    rates = {method: _IMAGES / watched.wall for method, watched in usage.items()}
    ours = rates.pop("all cores")
    for method, rate in rates.items():
        name = f"{_IMAGES:,} images: all cores against {method}"
        yield Comparison(name, ours, rate, "images/s", ours / rate, None)


def score_many(images: int) -> dict[str, Watched]:
    """Scores images by each method; returns the resources that each one used."""
    tasks = {"one process": "alone", "all cores": "together", "local Spark": "spark"}
    if importlib.util.find_spec("pyspark") is None:
        del tasks["local Spark"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _draw_photos(folder / "photos", images)
        watch(("benchmarks.bulk_scoring", "register"), folder)
        return {
            method: watch(("benchmarks.bulk_scoring", task), folder)
            for method, task in tqdm(tasks.items(), "scoring", disable=None)
        }


def _draw_photos(folder: Path, count: int) -> None:
    from person_attributes.data.sample import draw_sample

    folder.mkdir()
    draw_sample(folder, count // _NAMES, 224, seed=1)
    for image in list((folder / "resized").iterdir()):
        for number in range(1, _NAMES):
            image.with_stem(f"{image.stem}_{number}").hardlink_to(image)


def _register() -> None:
    """Registers a network of four one-layer blocks as champion of a store in this folder."""
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
        # By default Spark would make one task per 32 small files.
        "spark.sql.files.openCostInBytes": "65536",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
    }
    spark = SparkSession.builder.master("local[*]").config(map=settings).getOrCreate()
    predict = mlflow.pyfunc.spark_udf(
        spark, _CHAMPION, params={"on_error": "answer"}, env_manager="local"
    )
    table = spark.read.format("binaryFile").load("photos/resized")
    predictions = table.select("path", predict(table["content"]).alias("prediction"))
    predictions.write.mode("overwrite").parquet("spark.parquet")


_TASKS = {
    "register": _register,
    "alone": _score_alone,
    "together": _score_together,
    "spark": _score_on_spark,
}


def format_table(images: int, usage: dict[str, Watched]) -> str:
    """Formats a Markdown table of the resources that each method used."""
    heads = ["seconds", "images/s", "processor seconds", "MB"]
    lines = [f"| {images:,} images | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for method, one in usage.items():
        values = (one.wall, images / one.wall, one.seconds, one.megabytes)
        lines += [f"| {method} | {' | '.join(f'{value:,.0f}' for value in values)} |"]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1] in _TASKS:
        _TASKS[sys.argv[1]]()
    else:
        count = int(sys.argv[1])
        print(format_table(count, score_many(count)))
