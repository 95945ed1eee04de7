"""Logs, loads and checks the servable model: its files, signature and answers."""

import atexit
import base64
import io
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Object, Property
from PIL import Image

import person_attributes
from person_attributes.config import Params
from person_attributes.evaluation.gate import Condition
from person_attributes.framing import BlackBars
from person_attributes.labels import LabelMap
from person_attributes.serving import served_model
from person_attributes.serving.requests import ANSWER, INPUT_COLUMN, Limits, RequestOptions
from person_attributes.tracking.connection import translate_load_errors

_SERVING_PACKAGES = (
    "mlflow-skinny",
    "msgspec",
    "numpy",
    "onnxruntime",
    "pandas",
    "pillow",
    "prometheus-client",
)
"""The packages that serving needs; only tracking needs the full MLflow."""


def read_limits(params: Params) -> Limits:
    """Returns the limits of a request to a served version."""
    section = params.registry.serving
    return Limits(
        rows=section.max_rows,
        request_megabytes=section.max_request_megabytes,
        image_megabytes=section.max_image_megabytes,
        image_megapixels=section.max_image_megapixels,
    )


def load_model(uri: str) -> Any:
    """Loads a registered model. Its files are removed when the process exits.

    Raises:
        RegistryError: If there is no such model. `person-attributes models` lists them.
    """
    # Without a folder, MLflow downloads to one that nobody removes.
    folder = tempfile.mkdtemp(prefix="person-attributes-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = list(sys.path)
    with translate_load_errors(uri):
        model = mlflow.pyfunc.load_model(uri, dst_path=folder)
    # MLflow prepends the model's own code, which later imports would find in place of ours.
    sys.path[:] = path
    return model


def check_served(
    uri: str,
    contents: Sequence[bytes],
    y_prob: Mapping[str, npt.NDArray[np.float32]],
    label_map: LabelMap,
    max_difference: float,
) -> Condition:
    """Compares the answers of the registered model with the evaluation.

    Args:
        uri: The URI of the model in the registry.
        contents: The original image files, n of them.
        y_prob: Their predictions in the evaluation, `{head: (n, classes)}`.
        label_map: The heads and their classes.
        max_difference: The largest accepted difference in probability.

    Returns:
        A condition of the gate.
    """
    table = pd.DataFrame(
        {INPUT_COLUMN: [base64.b64encode(content).decode() for content in contents]}
    )
    answers = load_model(uri).predict(table, params={"on_error": ANSWER})
    # Serving has smaller limits than the data; larger images have no answer to compare.
    rows = [row for row, error in enumerate(answers["error"]) if not error]
    labels, differing, largest = label_map.decode(y_prob), 0, 0.0
    for head in label_map.heads:
        for row in rows:
            answer = answers[head][row]
            differing += answer["label"] != labels[head].iloc[row]
            difference = abs(answer["probability"] - float(y_prob[head][row].max()))
            largest = max(largest, difference)
    return Condition(
        "served answers",
        f"labels of the evaluation, probabilities within {max_difference:.0e}",
        f"{differing} labels differ, largest difference {largest:.1e}, on {len(rows)} of "
        f"{len(contents)} original images",
        holds=bool(rows) and not differing and largest <= max_difference,
    )


def log_model(
    network: Path,
    label_map: Path,
    companions: Sequence[Path],
    limits: Limits,
    black_bars: BlackBars,
) -> str:
    """Logs the servable model to the active run, or without a run if there is none.

    Args:
        network: The checked `.onnx` file.
        label_map: The file of the label map of the served heads.
        companions: More files of the model: its cards, its Keras weights, and those that rebuild
            its networks.
        limits: The limits of a request.
        black_bars: How black bars around images are treated, as in the packs.

    Returns:
        The URI of the logged model, to register.
    """
    info = mlflow.pyfunc.log_model(
        name="model",
        python_model=served_model.__file__,
        # URIs, because MLflow would parse a path as a URI, special characters included.
        artifacts={
            "network": network.resolve().as_uri(),
            "label_map": label_map.resolve().as_uri(),
            **{path.name: path.resolve().as_uri() for path in companions},
        },
        model_config={"limits": asdict(limits), "black_bars": black_bars},
        code_paths=[str(Path(person_attributes.__file__).parent)],
        pip_requirements=_list_requirements(),
        signature=_build_signature(LabelMap.read(label_map)),
        input_example=_build_input_example(),
    )
    return str(info.model_uri)


def _list_requirements() -> list[str]:
    requirements = [f"{package}=={version(package)}" for package in _SERVING_PACKAGES]
    if sys.platform != "win32":
        # uvicorn uses it if it is installed. With asyncio, its workers delay answers by 40 ms: the
        # sockets that they inherit have no TCP_NODELAY (github.com/Kludex/uvicorn/issues/3149).
        requirements.append(f"uvloop=={version('uvloop')}; sys_platform != 'win32'")
    return requirements


def _build_signature(label_map: LabelMap) -> ModelSignature:
    defaults = RequestOptions()
    answer = Object(
        [
            Property("label", DataType.string, required=False),
            Property("probability", DataType.double, required=False),
        ]
    )
    return ModelSignature(
        # Any type, and optional: the model itself reports invalid values.
        inputs=Schema(
            [ColSpec(AnyType(), INPUT_COLUMN, required=False)]  # type: ignore[no-untyped-call]
        ),
        outputs=Schema(
            [
                *(ColSpec(answer, head) for head in label_map.heads),
                ColSpec(DataType.string, "error", required=False),
                ColSpec(DataType.string, "reason", required=False),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("top_k", DataType.long, defaults.top_k),
                ParamSpec("heads", DataType.string, list(defaults.heads), shape=(-1,)),
                ParamSpec("all_probabilities", DataType.boolean, defaults.all_probabilities),
                ParamSpec("on_error", DataType.string, defaults.on_error),
            ]
        ),
    )


def _build_input_example() -> Any:
    """Builds an example from a grey square: a model must not contain an image of a person."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "PNG")
    return pd.DataFrame({INPUT_COLUMN: [base64.b64encode(buffer.getvalue()).decode()]})
