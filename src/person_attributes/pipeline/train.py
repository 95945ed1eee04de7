"""The stage `train`: trains one phase."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
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
    select_phase_params,
)
from person_attributes.pipeline.provenance import read_starting_weights, write_provenance
from person_attributes.reporting.run_plots import draw_policy
from person_attributes.runtime.checkpoint import Checkpoint
from person_attributes.runtime.devices import gather_devices
from person_attributes.runtime.hosts import announcing, require_first_host
from person_attributes.tracking.journal import Journal
from person_attributes.tracking.runs import Continuation, Run, open_run
from person_attributes.training.callbacks import EpochListener
from person_attributes.training.phase import TrainedPhase, has_constant_features, train_phase
from person_attributes.training.replicas import require_agreement
from person_attributes.workspace import Workspace

if TYPE_CHECKING:  # a trial of a sweep does not need DVC
    from person_attributes.pipeline.run_cache import RunCache

_SHOWN_IMAGES = 6
"""Number of images in the plot of an augmentation policy."""


@dataclass(frozen=True)
class _PhaseRun:
    """A phase and the MLflow run that records it."""

    workspace: Workspace
    params: Params
    phase: str
    run: Run


def train(
    workspace: Workspace,
    params: Params,
    phase: str,
    listeners: Sequence[EpochListener] = (),
    run_cache: "RunCache | None" = None,
) -> None:
    """Trains one phase, starting from the best weights of its `starts_from`.

    Args:
        workspace: The project.
        params: All parameters.
        phase: A key of `params.phases`.
        listeners: Called after each epoch, in addition to MLflow and the terminal.
        run_cache: Its outputs are used if another process has trained the phase in the meantime,
            and it saves the outputs before the checkpoint is cleared. None for a trial of a sweep.
    """
    require_first_host(params, phase)
    writes = list_outputs(workspace, phase)
    used, inputs = select_phase_params(params, phase), digest_inputs(workspace, params, phase)
    fingerprint = fingerprint_phase(used, inputs)
    runtime = params.runtime
    checkpoint = Checkpoint(workspace.checkpoints, phase, fingerprint, runtime.checkpoint_minutes)
    with checkpoint.lock(waits=workspace.is_copy):
        if run_cache and run_cache.restore():
            checkpoint.finish(digest_paths(workspace.root, writes))
            return
        continuation = Continuation(
            fingerprint, Journal(checkpoint.journal), runtime.tracking_minutes
        )
        phase_run = open_run(
            f"train@{phase}", workspace, used, params.model_dump(), inputs, writes, continuation
        )
        with (
            phase_run as run,
            announcing(workspace, params, phase),
            gather_devices(runtime.devices) as devices,
        ):
            require_agreement(phase, fingerprint)
            run.set_tags({f"{phase}.devices": str(devices)})
            _train(_PhaseRun(workspace, params, phase, run), checkpoint, listeners, devices)
        if run_cache:
            run_cache.save()
        checkpoint.finish(digest_paths(workspace.root, writes))


def _train(
    current: _PhaseRun, checkpoint: Checkpoint, listeners: Sequence[EpochListener], devices: int
) -> None:
    """Trains a phase, then writes and logs its outputs."""
    workspace, params = current.workspace, current.params
    phase, run, section = current.phase, current.run, current.params.phases[current.phase]
    dataset = Dataset(workspace, section.image_size)
    classifier, train_batches, validation_batches = prepare_phase(dataset, params, phase)
    require_even_batches(phase, devices, train_batches, validation_batches)
    _log_start(current, dataset, train_batches)
    trained = train_phase(
        classifier,
        train_batches,
        validation_batches,
        params.recipe(phase),
        checkpoint,
        listeners=[
            lambda epoch, metrics: run.log_metrics(metrics, step=epoch),
            lambda epoch, metrics: _print_epoch(phase, epoch, section.epochs, metrics),
            *listeners,
        ],
    )
    best = trained.history[trained.best_epoch]
    run.log_results({f"{phase}_{name}": best[name] for name in ("val_loss", "val_mean_accuracy")})
    run.log_metrics({"best_epoch": trained.best_epoch + 1})
    run.flush()
    _write_weights(current, classifier)
    _write_history(workspace, phase, trained)
    starting_weights = read_starting_weights(workspace.provenance(section.starts_from))
    write_provenance(workspace, phase, dataset.split, section.image_size, starting_weights)
    print(
        f"{phase}: kept epoch {trained.best_epoch + 1} of {len(trained.history)}, validation loss "
        f"{best['val_loss']:.3f}, mean accuracy {best['val_mean_accuracy']:.3f}"
    )
    _report_heads_at_prior(current, train_batches, validation_batches, best)


def _log_start(current: _PhaseRun, dataset: Dataset, train_batches: ImageBatches) -> None:
    """Logs the split, whether features are cached, and a plot of the augmentation."""
    params, phase, run = current.params, current.phase, current.run
    is_cached = has_constant_features(params.recipe(phase), train_batches)
    if is_cached:
        print(f"{phase}: frozen backbone, no augmentation: computing the features once")
    tags = {"split.digest": dataset.split.digest}
    run.set_tags(tags | {f"{phase}.features_once": str(is_cached).lower()})
    policy = params.augmentation[params.phases[phase].augmentation]
    if not policy.is_identity:
        images = train_batches.images[train_batches.positions[:_SHOWN_IMAGES]]
        run.log_bytes(draw_policy(images, policy), "augmentation.png")


def _write_history(workspace: Workspace, phase: str, trained: TrainedPhase) -> None:
    history = pd.DataFrame(trained.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    with writing(workspace.history(phase)) as path:
        history.to_csv(path, index=False, lineterminator="\n")


def _report_heads_at_prior(
    current: _PhaseRun,
    train_batches: ImageBatches,
    validation_batches: ImageBatches,
    best: dict[str, float],
) -> None:
    """Tags the run with the heads that are no better than the class prior.

    Only the phases that are evaluated also print a warning: a later phase may still train the heads
    of an earlier one.
    """
    params, phase = current.params, current.phase
    priors = {
        head: prior_loss(target[validation_batches.positions], target[train_batches.positions])
        for head, target in train_batches.targets.items()
    }
    share = 1 - params.training.min_prior_improvement
    at_prior = [head for head, prior in priors.items() if best[f"val_{head}_loss"] > share * prior]
    current.run.set_tags({f"{phase}.at_prior": ", ".join(at_prior)})
    if phase not in params.evaluation.phases:
        return
    for head in at_prior:
        print(
            f"{phase}: {head} is no better than the class prior (loss "
            f"{best[f'val_{head}_loss']:.2f}, prior {priors[head]:.2f}). Train longer, raise "
            "learning_rate or check the labels."
        )


def _print_epoch(phase: str, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
    heads = "  ".join(
        f"{name.removeprefix('val_').removesuffix('_accuracy')} {value:.2f}"
        for name, value in metrics.items()
        if name.startswith("val_") and name.endswith("_accuracy") and name != "val_mean_accuracy"
    )
    print(
        f"{phase} {epoch + 1}/{epochs}  loss {metrics['loss']:.3f}  val {metrics['val_loss']:.3f}  "
        f"accuracy {metrics['val_mean_accuracy']:.3f}  ({heads})  "
        f"{metrics['images_per_second']:.0f} images/s",
        flush=True,
    )


def _write_weights(current: _PhaseRun, classifier: keras.Model) -> None:
    """Writes the weights without the optimizer state, and logs them as a Keras model.

    A copy of the model with the same layers was never compiled and has no optimizer to save. This
    makes the file a third smaller.
    """
    plain = keras.Model(classifier.inputs, classifier.output, name=classifier.name)
    with writing(current.workspace.weights(current.phase)) as path:
        plain.save_weights(path)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{current.phase}.keras"
        plain.save(model)
        current.run.log_file(model, "model")
