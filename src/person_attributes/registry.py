"""From trained weights to a registered model: export, check, log, register, promote by a gate."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import numpy.typing as npt
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Object, Property
from PIL import Image

import person_attributes
from person_attributes.config import RegistryParams
from person_attributes.data.images import Images
from person_attributes.errors import RegistryError
from person_attributes.labels import LabelMap
from person_attributes.serving import INPUT_COLUMN, MAX_MEGAPIXELS, load_network, run_network

_SERVING_PACKAGES = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
_EXPORT_BATCH = 64


@dataclass(frozen=True)
class Registered:
    """What became of a model.

    Attributes:
        version: Its number in the registry.
        is_champion: Whether it holds the alias now.
        reason: Why, in one sentence.
    """

    version: str
    is_champion: bool
    reason: str


def fetch_weights(source: str, folder: Path) -> Path:
    """Downloads the Keras weights that a logged or registered model carries.

    Args:
        source: Such as `models:/person-attributes@champion` or `runs:/ID/model`.
        folder: Where to put them.

    Returns:
        The `.weights.h5` or `.keras` file.

    Raises:
        RegistryError: If there is no such model, or it has no such file.
    """
    try:
        downloaded = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder)))
    except MlflowException as error:
        raise RegistryError(
            f"{source}: {' '.join(error.message.split())[:200]} Name a model that is in the "
            "registry, or a file."
        ) from None
    files = [downloaded] if downloaded.is_file() else sorted(downloaded.rglob("*"))
    weights = [path for path in files if path.name.endswith((".weights.h5", ".keras"))]
    if not weights:
        raise RegistryError(
            f"{source}: holds no .weights.h5 and no .keras file. Name a model of this project."
        )
    return weights[0]


def export_network(classifier: keras.Model, path: Path) -> None:
    """Exports a network of `build_classifier` to ONNX.

    Args:
        classifier: The network with its weights; the backend must be TensorFlow.
        path: The `.onnx` file to write.
    """
    height, width, channels = classifier.input_shape[1:]
    # Keras exports only what has been called.
    classifier(np.zeros((1, height, width, channels), np.uint8))
    classifier.export(path, format="onnx", verbose=False)


def check_export(
    network: Path,
    images: Images,
    positions: npt.NDArray[np.intp],
    y_prob: Mapping[str, npt.NDArray[np.float32]],
    max_difference: float,
) -> float:
    """Holds the exported network against Keras' answers on real rows.

    Args:
        network: The `.onnx` file.
        images: A pack.
        positions: The rows to compare.
        y_prob: Keras' probabilities for those rows.
        max_difference: Largest difference in probability to accept.

    Returns:
        The largest difference in probability that was found.

    Raises:
        RegistryError: If probabilities differ by more; do not serve this export.
    """
    session = load_network(str(network))
    largest = 0.0
    for begin in range(0, len(positions), _EXPORT_BATCH):
        part = positions[begin : begin + _EXPORT_BATCH]
        answers = run_network(session, images[part])
        if set(answers) != set(y_prob):
            raise RegistryError(
                f"export: the network's heads changed. Expected {', '.join(y_prob)}. "
                f"Received: {', '.join(answers)}. Report this with Keras' and tf2onnx' versions."
            )
        for head, expected in y_prob.items():
            difference = np.abs(answers[head] - expected[begin : begin + len(part)]).max()
            largest = max(largest, float(difference))
    if not largest <= max_difference:
        raise RegistryError(
            f"export: ONNX Runtime and Keras differ by {largest:.2e} in probability. Expected at "
            f"most {max_difference:.0e} (registry.max_export_difference). Not registered."
        )
    return largest


def log_model(
    network: Path, label_map: Path, weights: Path, max_megapixels: float, name: str
) -> str:
    """Logs the servable model to the active run and registers it.

    Args:
        network: The checked `.onnx` file.
        label_map: The label map's file.
        weights: The Keras weights, for further training.
        max_megapixels: Of an image that the model accepts, in millions.
        name: The registered model's name.

    Returns:
        The new version's number.
    """
    info = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(person_attributes.__file__).parent / "served_model.py"),
        artifacts={
            "network": str(network),
            "label_map": str(label_map),
            "weights": str(weights),
        },
        model_config={MAX_MEGAPIXELS: max_megapixels},
        code_paths=[str(Path(person_attributes.__file__).parent)],
        pip_requirements=[f"{package}=={version(package)}" for package in _SERVING_PACKAGES],
        signature=_build_signature(LabelMap.read(label_map)),
        input_example=_build_input_example(),
        registered_model_name=name,
    )
    return str(info.registered_model_version)


def _build_signature(label_map: LabelMap) -> ModelSignature:
    answer = Object([Property("label", DataType.string), Property("probability", DataType.double)])
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, INPUT_COLUMN)]),
        outputs=Schema([ColSpec(answer, head) for head in label_map.heads]),
    )


def _build_input_example() -> Any:
    """A grey square: no person's image travels with a model."""
    import pandas as pd

    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "PNG")
    return pd.DataFrame({INPUT_COLUMN: [base64.b64encode(buffer.getvalue()).decode()]})


def promote_if_better(
    client: MlflowClient,
    version_number: str,
    mean_accuracy: float,
    validation_digest: str,
    params: RegistryParams,
) -> Registered:
    """Moves the alias to a new version where the gate holds, and writes the reason on the version.

    Args:
        client: Of the registry.
        version_number: The challenger.
        mean_accuracy: Of the challenger, on the validation rows.
        validation_digest: Names those rows: accuracies on other rows are not comparable.
        params: The gate.

    Returns:
        Whether the challenger became champion, and why.
    """
    tags = {"mean_accuracy": repr(mean_accuracy), "validation_digest": validation_digest}
    champion = _find_champion(client, params)
    is_champion, reason = _decide(champion, mean_accuracy, validation_digest, params)
    if is_champion:
        client.set_registered_model_alias(params.model_name, params.alias, version_number)
    tags |= {"gate.promoted": str(is_champion).lower(), "gate.reason": reason}
    for key, value in tags.items():
        client.set_model_version_tag(params.model_name, version_number, key, value)
    return Registered(version_number, is_champion, reason)


def _find_champion(client: MlflowClient, params: RegistryParams) -> Any:
    try:
        return client.get_model_version_by_alias(params.model_name, params.alias)
    except MlflowException:
        return None


def _decide(
    champion: Any, mean_accuracy: float, validation_digest: str, params: RegistryParams
) -> tuple[bool, str]:
    if champion is None:
        return True, "there was no champion"
    if champion.tags.get("validation_digest") != validation_digest:
        return (
            params.when_rows_differ == "promote",
            f"version {champion.version} was scored on other rows, and "
            f"registry.when_rows_differ says {params.when_rows_differ}",
        )
    gain = mean_accuracy - float(champion.tags["mean_accuracy"])
    return (
        gain >= params.minimum_gain,
        f"mean accuracy {mean_accuracy:.4f} against {float(champion.tags['mean_accuracy']):.4f} of "
        f"version {champion.version}: a gain of {gain:+.4f}, at least {params.minimum_gain} needed",
    )
