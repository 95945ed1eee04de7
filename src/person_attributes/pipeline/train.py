"""The stage `train`: one phase."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import Params
from person_attributes.data.batches import ImageBatches
from person_attributes.data.dataset import Dataset
from person_attributes.digests import digest_paths
from person_attributes.evaluation.metrics import prior_loss
from person_attributes.files import writing
from person_attributes.pipeline.phases import (
    digest_inputs,
    fingerprint_phase,
    list_outputs,
    prepare_phase,
    require_even_batches,
    show_phase,
)
from person_attributes.pipeline.provenance import read_starting_weights, write_provenance
from person_attributes.reporting.run_plots import draw_policy
from person_attributes.runtime.checkpoint import Checkpoint
from person_attributes.runtime.devices import gather_devices, require_agreement
from person_attributes.runtime.hosts import announcing, require_first_host
from person_attributes.tracking.journal import Journal
from person_attributes.tracking.runs import Continuation, Run, open_run
from person_attributes.training.callbacks import EpochListener
from person_attributes.training.phase import TrainedPhase, has_constant_features, train_phase
from person_attributes.workspace import Workspace

_SHOWN_IMAGES = 6
"""Rows of the picture of a policy."""


def train(
    workspace: Workspace,
    params: Params,
    phase: str,
    listeners: Sequence[EpochListener] = (),
    restore: Callable[[], bool] = lambda: False,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """Trains one phase from the best weights of the one that it starts from.

    Args:
        workspace: The project.
        params: All parameters.
        phase: A key of its phases.
        listeners: Told after each epoch, beside MLflow and the terminal.
        restore: Writes the outputs, and says so, where another process has trained the phase
            while this one waited for it.
        keep: Called when the outputs are complete, before the checkpoint is cleared.
    """
    require_first_host(params, phase)
    writes = list_outputs(workspace, phase)
    shown, inputs = show_phase(params, phase), digest_inputs(workspace, params, phase)
    fingerprint = fingerprint_phase(shown, inputs)
    checkpoint = Checkpoint(
        workspace.checkpoints, phase, fingerprint, params.runtime.checkpoint_minutes
    )
    with checkpoint.hold(waits=workspace.is_copy):
        if restore():
            checkpoint.folder.rmdir()
            return
        continuation = Continuation(
            fingerprint, Journal(checkpoint.journal), params.runtime.tracking_minutes
        )
        with (
            open_run(
                f"train@{phase}",
                workspace,
                shown,
                params.model_dump(),
                inputs,
                writes,
                continuation,
            ) as run,
            announcing(workspace, params, phase),
            gather_devices(params.runtime.devices) as devices,
        ):
            require_agreement(phase, fingerprint)
            run.set_tags({f"{phase}.devices": str(devices)})
            _train(workspace, params, phase, checkpoint, run, listeners, devices)
        keep()
        checkpoint.finish(digest_paths(workspace.root, writes))


def _train(
    workspace: Workspace,
    params: Params,
    phase: str,
    checkpoint: Checkpoint,
    run: Run,
    listeners: Sequence[EpochListener],
    devices: int,
) -> None:
    """Reads, trains, writes and logs a phase."""
    section = params.phases[phase]
    dataset = Dataset(workspace, section.image_size)
    classifier, train_batches, validation_batches = prepare_phase(dataset, params, phase)
    require_even_batches(phase, devices, train_batches, validation_batches)
    _log_start(dataset, params, phase, train_batches, run)
    trained = train_phase(
        classifier,
        train_batches,
        validation_batches,
        params.recipe(phase),
        checkpoint,
        listeners=[
            lambda epoch, figures: run.log_metrics(figures, step=epoch),
            lambda epoch, figures: _print_epoch(phase, epoch, section.epochs, figures),
            *listeners,
        ],
    )
    best = trained.history[trained.best_epoch]
    run.log_results({f"{phase}_{name}": best[name] for name in ("val_loss", "val_mean_accuracy")})
    run.log_metrics({"best_epoch": trained.best_epoch + 1})
    run.flush()
    _write_weights(run, workspace, phase, classifier)
    _write_history(workspace, phase, trained)
    given = read_starting_weights(workspace, section.starts_from)
    write_provenance(workspace, phase, dataset.split, section.image_size, given)
    print(
        f"{phase}: kept epoch {trained.best_epoch + 1} of {len(trained.history)}, validation loss "
        f"{best['val_loss']:.3f}, mean accuracy {best['val_mean_accuracy']:.3f}"
    )
    _report_idle_heads(params, phase, train_batches, validation_batches, best, run)


def _log_start(
    dataset: Dataset, params: Params, phase: str, train_batches: ImageBatches, run: Run
) -> None:
    """Logs the split, whether features are computed once, and what augmentation does."""
    is_cached = has_constant_features(params.recipe(phase), train_batches)
    if is_cached:
        print(f"{phase}: the backbone is frozen, nothing augmented: features are computed once")
    tags = {"split.digest": dataset.split.digest}
    run.set_tags(tags | {f"{phase}.features_once": str(is_cached).lower()})
    policy = params.augmentation[params.phases[phase].augmentation]
    if not policy.is_identity:
        shown = train_batches.images[train_batches.positions[:_SHOWN_IMAGES]]
        run.log_bytes(draw_policy(shown, policy), "augmentation.png")


def _write_history(workspace: Workspace, phase: str, trained: TrainedPhase) -> None:
    history = pd.DataFrame(trained.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    with writing(workspace.history(phase)) as path:
        history.to_csv(path, index=False, lineterminator="\n")


def _report_idle_heads(
    params: Params,
    phase: str,
    train_batches: ImageBatches,
    validation_batches: ImageBatches,
    best: dict[str, float],
    run: Run,
) -> None:
    idle = _find_idle_heads(
        train_batches.targets,
        train_batches.positions,
        validation_batches.positions,
        best,
        params.training.min_prior_improvement,
    )
    run.set_tags({f"{phase}.at_prior": ", ".join(idle)})
    if idle:
        print(
            f"{phase}: learned nothing of {', '.join(idle)}: the loss is no lower than that of "
            "always saying the class shares. Train longer, raise learning_rate, or look at the "
            "labels."
        )


def _print_epoch(phase: str, epoch: int, epochs: int, figures: Any) -> None:
    heads = "  ".join(
        f"{name.removeprefix('val_').removesuffix('_accuracy')} {value:.2f}"
        for name, value in figures.items()
        if name.startswith("val_") and name.endswith("_accuracy") and name != "val_mean_accuracy"
    )
    print(
        f"{phase} {epoch + 1}/{epochs}  loss {figures['loss']:.3f}  val {figures['val_loss']:.3f}  "
        f"accuracy {figures['val_mean_accuracy']:.3f}  ({heads})  "
        f"{figures['images_per_second']:.0f} images/s",
        flush=True,
    )


def _write_weights(run: Run, workspace: Workspace, phase: str, classifier: keras.Model) -> None:
    """Writes the weights without the optimizer's state, and logs them as a Keras model.

    The same layers as a network that was never compiled: it has no optimizer to save, which is a
    third of the size.
    """
    plain = keras.Model(classifier.inputs, classifier.output, name=classifier.name)
    with writing(workspace.weights(phase)) as path:
        plain.save_weights(path)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{phase}.keras"
        plain.save(model)
        run.log_file(model, "model")


def _find_idle_heads(
    targets: Mapping[str, npt.NDArray[np.float32]],
    training_rows: npt.NDArray[np.intp],
    validation_rows: npt.NDArray[np.intp],
    best: dict[str, float],
    min_prior_improvement: float,
) -> list[str]:
    """Lists the heads whose validation loss is about that of always saying the class shares."""
    return [
        head
        for head, target in targets.items()
        if best[f"val_{head}_loss"]
        > (1 - min_prior_improvement) * prior_loss(target[validation_rows], target[training_rows])
    ]
