"""The Keras weights that logged and registered models carry."""

from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from person_attributes.errors import RegistryError, one_line


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
            f"{source}: {one_line(error.message, 200)} Name a model that is in the "
            "registry, or a file."
        ) from None
    files = [downloaded] if downloaded.is_file() else sorted(downloaded.rglob("*"))
    weights = [path for path in files if path.name.endswith((".weights.h5", ".keras"))]
    if not weights:
        raise RegistryError(
            f"{source}: holds no .weights.h5 and no .keras file. Name a model of this project."
        )
    return weights[0]
