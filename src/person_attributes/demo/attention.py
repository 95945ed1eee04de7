"""Where the network of a registered model looks, by the Keras weights that travel with it."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from PIL import Image

from person_attributes.config import Params, read_params
from person_attributes.data.images import resize_image
from person_attributes.errors import RegistryError
from person_attributes.tracking.executions import REUSED, STAGE


class Attention:
    """Heat maps of the network of one version, built as that version was."""

    def __init__(self, client: MlflowClient, model: str, run_id: str) -> None:
        """Builds the network from the parameters of the version's run and loads its weights.

        Args:
            client: Of the store.
            model: The logged model, such as `models:/m-ID`.
            run_id: The run that registered it.

        Raises:
            RegistryError: If parameters, normalization or weights are not at hand.
        """
        import keras

        from person_attributes.evaluation.gradcam import GradCam
        from person_attributes.modeling.classifier import Normalization, build_classifier
        from person_attributes.registry import fetch_weights

        with tempfile.TemporaryDirectory() as folder:
            params = _read_params(client, run_id, folder)
            found = _find_initializing_run(client, run_id)
            file = _download(client, found, "normalization.json", folder)
            normalization = Normalization(**json.loads(file.read_text(encoding="utf-8")))
            self._classes = {name: head.classes for name, head in params.heads.items()}
            self._image_size = params.phases[params.evaluation.phase].image_size
            network: keras.Model = build_classifier(
                self._image_size,
                {name: len(classes) for name, classes in self._classes.items()},
                params.model,
                normalization,
            )
            network.load_weights(fetch_weights(model, Path(folder)))
        self._looker = GradCam(network)

    def explain(
        self, image: Image.Image, labels: Mapping[str, str]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Says for each head how much each place speaks for its label, from 0 to 1.

        Args:
            image: A photograph.
            labels: `{head: class name}`.

        Returns:
            `{head: (rows, columns)}` of the features' size.
        """
        images = resize_image(image, self._image_size)[None]
        return {
            head: self._looker.explain(images, head, np.array([self._classes[head].index(label)]))[
                0
            ]
            for head, label in labels.items()
        }


def _read_params(client: MlflowClient, run_id: str, folder: str) -> Params:
    return read_params(_download(client, run_id, "params.yaml", folder))


def _find_initializing_run(client: MlflowClient, run_id: str) -> str:
    """Gives the run of `initialize`, which measured what the network subtracts from pixels."""
    run = client.get_run(run_id)
    parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID, "")
    found = client.search_runs(
        [run.info.experiment_id],
        f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}' and tags.`{STAGE}` = 'initialize'",
        max_results=1,
    )
    if found:
        return str(found[0].info.run_id)
    reused = client.get_run(parent).data.tags.get(f"{REUSED}initialize") if parent else None
    if reused is None:
        raise RegistryError(f"run {run_id}: its execution has no run of the stage initialize.")
    return str(reused)


def _download(client: MlflowClient, run_id: str, artifact: str, folder: str) -> Path:
    try:
        return Path(client.download_artifacts(run_id, artifact, folder))
    except (MlflowException, OSError):
        raise RegistryError(f"run {run_id}: has no {artifact}. Register the model anew.") from None
