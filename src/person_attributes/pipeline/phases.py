"""Shared by the commands that train a phase: inputs, fingerprint, network and batches."""

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
from person_attributes.training.precision import configure_runtime, has_slow_kernels
from person_attributes.workspace import Workspace


def identify_phase(workspace: Workspace, params: Params, phase: str) -> str:
    """Returns the fingerprint of a phase in this project."""
    return fingerprint_phase(
        select_phase_params(params, phase), digest_inputs(workspace, params, phase)
    )


def select_phase_params(params: Params, phase: str) -> dict[str, Any]:
    """Selects the parameters that a phase uses."""
    section = params.phases[phase]
    names = {
        "phases": phase,
        "augmentation": section.augmentation,
        "losses": section.loss,
        "optimizers": section.optimizer,
        "schedules": section.schedule,
    }
    selected = params.model_dump(include={"seed", "model", "training"})
    for group, name in names.items():
        selected[group] = {name: getattr(params, group)[name].model_dump()}
    return selected


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
    """Digests all that determines a phase's result: parameters, inputs, code and libraries."""
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
    """Builds a phase's network with its starting weights, and its batches.

    Returns:
        The network, the training batches and the validation batches.
    """
    section = params.phases[phase]
    configure_runtime(params.training)
    if has_slow_kernels(params.training):
        print(
            f"{phase}: training.precision: this CPU computes {params.training.precision} several "
            "times slower than float32. Set it to float32, or use a GPU."
        )
    keras.utils.set_random_seed(_phase_seed(params.seed, phase))
    workspace = dataset.workspace
    refuse_other_split(workspace, workspace.provenance(section.starts_from), dataset.split)
    classifier = build_network(workspace, params, section.image_size)
    classifier.load_weights(workspace.weights(section.starts_from))
    return classifier, *_make_batches(dataset, params, phase)


def _make_batches(
    dataset: Dataset, params: Params, phase: str
) -> tuple[ImageBatches, ImageBatches]:
    """Builds the training and the validation batches of a phase."""
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
    """Checks that every batch, including the last one, divides evenly among JAX's devices.

    Raises:
        UntrainableError: If one does not. Change the phase's `batch_size` or the devices.
    """
    if keras.backend.backend() != "jax":
        return
    for batches in parts:
        for size in (batches.batch_size, batches.rows % batches.batch_size):
            if size % devices:
                raise UntrainableError(
                    f"{phase}: a batch of {size} images does not divide among {devices} devices, "
                    "which JAX requires. Change the phase's batch_size, set runtime.devices to "
                    "one, or set KERAS_BACKEND to tensorflow."
                )


def _phase_seed(seed: int, phase: str) -> int:
    return zlib.crc32(f"{seed}/{phase}".encode())
