"""The registered model gives the same answers on a real local Spark. `make spark`."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from tiny_model import CHAMPION, Registered

SCORE = f"""
import json, sys, warnings
warnings.simplefilter("ignore")  # Spark warns about this version of pandas
import mlflow
from pyspark.sql import SparkSession
mlflow.set_tracking_uri("sqlite:///mlflow.db")
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
builder = builder.config("spark.driver.bindAddress", "127.0.0.1")
spark = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
answer = mlflow.pyfunc.spark_udf(
    spark, {CHAMPION!r}, params={{"on_error": "answer"}}, env_manager="local")
table = spark.createDataFrame(json.load(sys.stdin), ["path", "image"]).repartition(2)
rows = table.select("path", answer("image").alias("answer")).orderBy("path").collect()
print(json.dumps([row.asDict(recursive=True) for row in rows]))
"""


@pytest.mark.spark
def test_spark_gives_the_answers_of_the_model(registered: Registered, people: Path) -> None:
    images = {path.name: path.read_bytes() for path in sorted(people.rglob("*.jpg"))}
    images["broken.jpg"] = b"broken"
    encoded = [[name, base64.b64encode(content).decode()] for name, content in images.items()]
    done = subprocess.run(
        [sys.executable, "-c", SCORE],
        input=json.dumps(encoded),
        cwd=registered.root,
        env=registered.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = {row["path"]: row["answer"] for row in json.loads(done.stdout.splitlines()[-1])}
    assert answers == _ask(registered, images)
    assert answers["broken.jpg"]["error"] == "image"


def _ask(registered: Registered, images: dict[str, bytes]) -> dict[str, object]:
    with registered.store():
        model = mlflow.pyfunc.load_model(CHAMPION)
    answers = {}
    for name, content in images.items():  # one image per request, below the limit of rows
        table = pd.DataFrame({"image": [content]})
        (answers[name],) = model.predict(table, params={"on_error": "answer"}).to_dict("records")
    return answers
