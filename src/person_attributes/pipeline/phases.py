"""Phases, as training, sweeps, joining hosts and the range test have them."""

import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from person_attributes.config import Params
from person_attributes.data.augment import Augmenter, check_policies
from person_attributes.data.batches import ImageBatches
from person_attributes.data.dataset import Dataset
from person_attributes.data.mixing import Mixer
from person_attributes.data.split import TRAIN, VALIDATION
from person_attributes.digests import combine, digest_code, digest_paths
from person_attributes.errors import UntrainableError
from person_attributes.pipeline.networks import build_network
from person_attributes.pipeline.provenance import refuse_other_split
from person_attributes.training.precision import configure_runtime
from person_attributes.workspace import Workspace


def identify_phase(workspace: Workspace, params: Params, phase: str) -> str:
    """Names everything that a phase's result depends on."""
    return fingerprint_phase(show_phase(params, phase), digest_inputs(workspace, params, phase))


def show_phase(params: Params, phase: str) -> dict[str, Any]:
    """Leaves of the parameters what a phase computes with."""
    section = params.phases[phase]
    named = {
        "phases": phase,
        "augmentation": section.augmentation,
        "losses": section.loss,
        "optimizers": section.optimizer,
        "schedules": section.schedule,
    }
    shown = params.model_dump(include={"seed", "model", "training"})
    for group, name in named.items():
        shown[group] = {name: getattr(params, group)[name].model_dump()}
    return shown


def digest_inputs(workspace: Workspace, params: Params, phase: str) -> dict[str, str]:
    """Digests the files that a phase reads."""
    section = params.phases[phase]
    reads = [
        workspace.weights(section.starts_from),
        workspace.provenance(section.starts_from),
        workspace.normalization,
        workspace.pack(section.image_size),
        workspace.records,
        workspace.one_hot,
        workspace.label_map,
        workspace.split,
    ]
    return digest_paths(workspace.root, reads)


def list_outputs(workspace: Workspace, phase: str) -> list[Path]:
    """Lists the files that a phase writes."""
    return [workspace.weights(phase), workspace.provenance(phase), workspace.history(phase)]


def fingerprint_phase(params: dict[str, Any], inputs: dict[str, str]) -> str:
    """Names everything that a phase's result depends on: numbers, inputs, code and libraries."""
    return combine(
        {
            "params": params,
            "inputs": inputs,
            "code": digest_code("train"),
            "libraries": [keras.backend.backend(), keras.__version__, np.__version__],
        }
    )


def prepare_phase(
    dataset: Dataset, params: Params, phase: str
) -> tuple[keras.Model, ImageBatches, ImageBatches]:
    """Reads what a phase starts from: its network, and training and validation batches."""
    section = params.phases[phase]
    configure_runtime(params.training)
    keras.utils.set_random_seed(_phase_seed(params.seed, phase))
    workspace = dataset.workspace
    refuse_other_split(workspace, section.starts_from, dataset.split)
    classifier = build_network(workspace, params, section.image_size)
    classifier.load_weights(workspace.weights(section.starts_from))
    return classifier, *_make_batches(dataset, params, phase)


def _make_batches(
    dataset: Dataset, params: Params, phase: str
) -> tuple[ImageBatches, ImageBatches]:
    """Makes the training and the validation batches of a phase."""
    section = params.phases[phase]
    policy = params.augmentation[section.augmentation]
    check_policies({section.augmentation: policy}, [section.image_size])
    train = ImageBatches(
        dataset.images,
        dataset.targets,
        dataset.part(TRAIN).positions,
        section.batch_size,
        augmenter=Augmenter(policy) if policy.augmenters else None,
        mixer=Mixer(policy) if policy.mixes else None,
        seed=_phase_seed(params.seed, phase),
        workers=0 if policy.is_identity else params.runtime.workers,
    )
    validation = ImageBatches(
        dataset.images,
        dataset.targets,
        dataset.part(VALIDATION).positions,
        section.batch_size,
        augmenter=None,
        seed=None,
    )
    return train, validation


def require_even_batches(phase: str, devices: int, *parts: ImageBatches) -> None:
    """Holds batches, the last ones too, against the devices that JAX shares them out to.

    Raises:
        UntrainableError: If one does not divide: says which, and what to change.
    """
    if keras.backend.backend() != "jax":
        return
    for batches in parts:
        for size in (batches.batch_size, batches.rows % batches.batch_size):
            if size % devices:
                raise UntrainableError(
                    f"{phase}: a batch of {size} images does not divide among {devices} devices, "
                    "as JAX needs it. Change the phase's batch_size, set runtime.devices to one, "
                    "or KERAS_BACKEND to tensorflow."
                )


def _phase_seed(seed: int, phase: str) -> int:
    return zlib.crc32(f"{seed}/{phase}".encode())
