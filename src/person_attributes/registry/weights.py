"""Downloads the Keras weights of logged and registered models."""

from pathlib import Path

import mlflow

from person_attributes.errors import RegistryError
from person_attributes.tracking.connection import translate_load_errors


def fetch_weights(source: str, folder: Path) -> Path:
    """Downloads the Keras weights of a logged or registered model with one network.

    Args:
        source: Its URI, such as `models:/person-attributes@champion` or `runs:/ID/model`, or that
            of one of its files.
        folder: The folder to download to.

    Returns:
        The `.weights.h5` or `.keras` file.

    Raises:
        RegistryError: If there is no such model or file, or it is an ensemble. Name another one.
    """
    first, *others = fetch_member_weights(source, folder)
    if others:
        names = ", ".join(path.name for path in (first, *others))
        raise RegistryError(
            f"{source}: expected a model with one network. Received: an ensemble of {names}. Name "
            f"one file of a version, such as models:/NAME/VERSION/artifacts/{first.name}."
        )
    return first


def fetch_member_weights(source: str, folder: Path) -> list[Path]:
    """Downloads the Keras weights of a logged or registered model.

    Args:
        source: Its URI, such as `models:/person-attributes@champion` or `runs:/ID/model`.
        folder: The folder to download to.

    Returns:
        The `.weights.h5` or `.keras` files in the order of their names, one for each network.

    Raises:
        RegistryError: If there is no such model, or it has no such file. Name another one.
    """
    with translate_load_errors(source):
        downloaded = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder)))
    files = [downloaded] if downloaded.is_file() else sorted(downloaded.rglob("*"))
    weights = [path for path in files if path.name.endswith((".weights.h5", ".keras"))]
    if not weights:
        raise RegistryError(
            f"{source}: has no .weights.h5 or .keras file. Name a model of this project."
        )
    return weights
