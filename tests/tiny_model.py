"""Registers a small untrained network as the champion of its own store, within seconds."""

import contextlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
from conftest import ROOT, SHIPPED, change_params

from person_attributes.config import read_params
from person_attributes.labels import LabelMap
from person_attributes.modeling.classifier import Normalization, build_classifier
from person_attributes.serving.requests import Limits
from person_attributes.tracking.connection import connect
from person_attributes.tracking.database import prepare_store, sqlite_address
from person_attributes.workspace import Workspace

CHAMPION = "models:/person-attributes@champion"
IMAGE_SIZE = 64
LIMITS = Limits(rows=8, request_megabytes=4, image_megabytes=1, image_megapixels=4)


@dataclass(frozen=True)
class Registered:
    """A workspace whose store has the champion."""

    root: Path

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
        kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        kept |= {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        return kept | variables

    def copy(self, root: Path) -> "Registered":
        shutil.copytree(self.root, root)
        prepare_store(root / "mlflow.db")  # otherwise the first command reports that it was copied
        return Registered(root)

    @contextlib.contextmanager
    def store(self) -> Iterator[None]:
        """Sets the tracking URI to this store during the block."""
        mlflow.set_tracking_uri(sqlite_address(self.root / "mlflow.db"))
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


def register_tiny_model(root: Path) -> Registered:
    workspace = Workspace(root)
    shutil.copy(SHIPPED, workspace.params)
    size = {"evaluation.phases": ["p5"], "phases.p5.image_size": IMAGE_SIZE}
    change_params(workspace.params, {"model.blocks": [1, 1, 1, 1], **size})
    params = read_params(workspace.params)
    label_map = LabelMap.declare(params.heads)
    normalization = Normalization([100.0] * 3, [50.0] * 3)
    network = build_classifier(IMAGE_SIZE, label_map.class_counts, params.model, normalization)
    files = [root / name for name in ("network.onnx", "label_map.json", "p5.weights.h5")]
    label_map.write(files[1])
    workspace.normalization.parent.mkdir()
    workspace.normalization.write_text(json.dumps(normalization.to_dict()), encoding="utf-8")
    network.save_weights(files[2])
    with warnings.catch_warnings():
        # tf2onnx and MLflow warn during export and registration.
        warnings.simplefilter("ignore")
        from person_attributes.registry.export import export_network

        export_network(network, files[0], excluded_heads=[])
        _register(workspace, [*files, workspace.normalization, workspace.params])
    return Registered(root)


def _register(workspace: Workspace, files: list[Path]) -> None:
    from person_attributes.registry.model import log_model

    network, label_map, *companions = files
    with Registered(workspace.root).store():
        client = connect(workspace)
        experiment = client.create_experiment("tiny", (workspace.root / "mlruns").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            uri = log_model(network, label_map, companions, LIMITS, "keep")
        version = mlflow.register_model(uri, "person-attributes").version
        client.set_registered_model_alias("person-attributes", "champion", version)
