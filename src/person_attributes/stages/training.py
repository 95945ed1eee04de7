"""The stages that train: the first weights, then phase after phase."""

import shutil
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import INITIAL, AugmentationParams, Params
from person_attributes.data.annotations import read_records
from person_attributes.data.packs import channel_statistics, open_pack
from person_attributes.data.split import Split, find_positions
from person_attributes.digests import combine, digest_path, digest_paths
from person_attributes.errors import UntrainableError
from person_attributes.stages.joining import announcing, require_first_host
from person_attributes.stages.wiring import (
    build_network,
    open_stage_run,
    read_starting_weights,
    read_targets,
    refuse_other_split,
    write_json,
    write_provenance,
    writing,
)
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import keras

    from person_attributes.data.batches import ImageBatches
    from person_attributes.data.images import Images
    from person_attributes.tracking.runs import Run
    from person_attributes.training.callbacks import EpochListener
    from person_attributes.training.resume import Backup


_SHOWN_IMAGES, _SHOWN_DRAWS = 6, 7
"""Size of the picture of a policy."""

_MODEL_SCHEMES = ("models:/", "runs:/")
"""How the name of an MLflow model begins, in place of a file's."""


def initialize(workspace: Workspace, params: Params) -> None:
    """Measures the training rows' channels and writes the first random weights."""
    import keras

    from person_attributes.drawing.network import draw_network
    from person_attributes.modeling.classifier import make_normalization

    image_size = params.data.image_sizes[0]
    writes = [
        workspace.weights(INITIAL),
        workspace.provenance(INITIAL),
        workspace.normalization,
        workspace.network_picture,
    ]
    reads = [
        workspace.pack(image_size),
        workspace.records,
        workspace.split,
        workspace.label_map,
    ]
    with open_stage_run("initialize", workspace, params, {"seed", "model"}, reads, writes) as run:
        records, drawn = read_records(workspace.records), Split.read(workspace.split)
        pack = open_pack(workspace.pack(image_size))
        normalization = make_normalization(
            params.model.normalization,
            lambda: channel_statistics(pack, find_positions(records, drawn.train)),
        )
        keras.utils.set_random_seed(params.seed)
        classifier = build_network(workspace, params, image_size, normalization)
        given = _load_starting_weights(workspace, params, classifier)
        with writing(workspace.normalization) as path:
            write_json(path, normalization.to_dict())
        with writing(workspace.weights(INITIAL)) as path:
            classifier.save_weights(path)
        write_provenance(workspace, INITIAL, drawn, image_size, given)
        with writing(workspace.network_picture) as path:
            path.write_bytes(draw_network(classifier))
        trainable = sum(int(np.prod(weight.shape)) for weight in classifier.trainable_weights)
        run.log_metrics({"weights": classifier.count_params(), "trainable_weights": trainable})
        run.log_metrics(
            {
                f"mean_{channel}": value
                for channel, value in zip("rgb", normalization.mean, strict=True)
            }
        )
        run.set_tags({"starting_weights": given})
        run.log_file(workspace.normalization)
        run.log_file(workspace.network_picture)
        print(f"initialize: {classifier.count_params():,} weights, {trainable:,} of them trainable")


def _load_starting_weights(workspace: Workspace, params: Params, classifier: "keras.Model") -> str:
    """Loads given weights in place of the drawn ones; gives their digest, empty without any."""
    from person_attributes.modeling.starting_weights import load_starting_weights
    from person_attributes.registry import fetch_weights

    section = params.model.starting_weights
    if not section.source:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        is_model = section.source.startswith(_MODEL_SCHEMES)
        given = workspace.home / section.source
        path = fetch_weights(section.source, Path(folder)) if is_model else given
        arrays = load_starting_weights(classifier, path, section.part)
        digest = digest_path(path)
    print(
        f"initialize: {arrays} arrays of {section.source}. If it was trained on rows that are "
        "validation or test rows here, figures on those are too good."
    )
    return digest


def train(
    workspace: Workspace,
    params: Params,
    phase: str,
    listeners: "Sequence[EpochListener]" = (),
    restore: "Callable[[], bool]" = lambda: False,
    keep: "Callable[[], None]" = lambda: None,
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
    from person_attributes.tracking.journal import Journal
    from person_attributes.tracking.runs import Continuation, open_run
    from person_attributes.training.devices import gather_devices, require_agreement
    from person_attributes.training.resume import Backup

    require_first_host(params, phase)
    writes = _list_outputs(workspace, phase)
    shown, inputs = _show_phase(params, phase), _digest_inputs(workspace, params, phase)
    fingerprint = _fingerprint(shown, inputs)
    backup = Backup(workspace.backups, phase, fingerprint, params.runtime.backup_minutes)
    with backup.hold(waits=workspace.is_copy):
        if restore():
            backup.folder.rmdir()
            return
        continuation = Continuation(
            fingerprint, Journal(backup.journal), params.runtime.tracking_minutes
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
            _train(workspace, params, phase, backup, run, listeners, devices)
        keep()
        backup.finish(digest_paths(workspace.root, writes))


def identify_phase(workspace: Workspace, params: Params, phase: str) -> str:
    """Names everything that a phase's result depends on."""
    return _fingerprint(_show_phase(params, phase), _digest_inputs(workspace, params, phase))


def _digest_inputs(workspace: Workspace, params: Params, phase: str) -> dict[str, str]:
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


def _list_outputs(workspace: Workspace, phase: str) -> list[Path]:
    return [workspace.weights(phase), workspace.provenance(phase), workspace.history(phase)]


def adopt_phase(place: Workspace, project: Workspace, params: Params, phase: str) -> bool:
    """Takes a phase over from the project, where that has trained the very same.

    Args:
        place: The folder of a trial, with the outputs of the phase before.
        project: Where the phase may have been trained.
        params: The trial's.
        phase: A key of its phases.

    Returns:
        Whether the outputs of the phase lie in the trial's folder now.
    """
    from person_attributes.training.resume import Backup

    fingerprint = identify_phase(place, params, phase)
    outputs = Backup(project.backups, phase, fingerprint, 0).finished_outputs()
    paths = _list_outputs(project, phase)
    if outputs is None or outputs != digest_paths(project.root, paths):
        return False
    for path in paths:
        target = place.root / path.relative_to(project.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return True


def _show_phase(params: Params, phase: str) -> dict[str, Any]:
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


def _train(
    workspace: Workspace,
    params: Params,
    phase: str,
    backup: "Backup",
    run: "Run",
    listeners: "Sequence[EpochListener]",
    devices: int,
) -> None:
    """Reads, trains, writes and logs a phase."""
    from person_attributes.training.phase import has_constant_features, train_phase

    section, drawn = params.phases[phase], Split.read(workspace.split)
    classifier, train_batches, validation_batches = prepare_phase(workspace, params, phase, drawn)
    require_even_batches(phase, devices, train_batches, validation_batches)
    is_cached = has_constant_features(params.recipe(phase), train_batches)
    if is_cached:
        print(f"{phase}: the backbone is frozen, nothing augmented: features are computed once")
    run.set_tags({"split.digest": drawn.digest, f"{phase}.features_once": str(is_cached).lower()})
    policy = params.augmentation[section.augmentation]
    if not policy.is_identity:
        shown = train_batches.images[train_batches.positions[:_SHOWN_IMAGES]]
        run.log_bytes(_draw_policy(shown, policy), "augmentation.png")
    trained = train_phase(
        classifier,
        train_batches,
        validation_batches,
        params.recipe(phase),
        backup,
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
    history = pd.DataFrame(trained.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    with writing(workspace.history(phase)) as path:
        history.to_csv(path, index=False, lineterminator="\n")
    given = read_starting_weights(workspace, section.starts_from)
    write_provenance(workspace, phase, drawn, section.image_size, given)
    print(
        f"{phase}: kept epoch {trained.best_epoch + 1} of {len(history)}, validation loss "
        f"{best['val_loss']:.3f}, mean accuracy {best['val_mean_accuracy']:.3f}"
    )
    idle = _find_idle_heads(
        train_batches.targets,
        train_batches.positions,
        validation_batches.positions,
        best,
        params.training.least_progress,
    )
    run.set_tags({f"{phase}.learned_nothing": ", ".join(idle)})
    if idle:
        print(
            f"{phase}: learned nothing of {', '.join(idle)}: the loss is no lower than that of "
            "always saying the class shares. Train longer, raise learning_rate, or look at the "
            "labels."
        )


def prepare_phase(
    workspace: Workspace, params: Params, phase: str, drawn: Split
) -> "tuple[keras.Model, ImageBatches, ImageBatches]":
    """Reads what a phase starts from: its network, and training and validation batches."""
    import keras

    from person_attributes.training.runtime import configure_runtime

    section = params.phases[phase]
    configure_runtime(params.training)
    keras.utils.set_random_seed(_phase_seed(params.seed, phase))
    refuse_other_split(workspace, section.starts_from, drawn)
    classifier = build_network(workspace, params, section.image_size)
    classifier.load_weights(workspace.weights(section.starts_from))
    records, targets = read_records(workspace.records), read_targets(workspace)
    batches = _make_batches(
        workspace,
        params,
        phase,
        targets,
        find_positions(records, drawn.train),
        find_positions(records, drawn.validation),
    )
    return classifier, *batches


def require_even_batches(phase: str, devices: int, *parts: "ImageBatches") -> None:
    """Holds batches, the last ones too, against the devices that JAX shares them out to.

    Raises:
        UntrainableError: If one does not divide: says which, and what to change.
    """
    import keras

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


def lr_find(workspace: Workspace, params: Params, phase: str) -> None:
    """Looks for a learning rate of a phase by a range test; no stage, and nothing depends on it."""
    from person_attributes.lr_finder import (
        draw_in_terminal,
        draw_range_test,
        find_learning_rate,
    )
    from person_attributes.tracking.runs import open_single_run
    from person_attributes.training.features import cache_features
    from person_attributes.training.phase import has_constant_features, make_network

    recipe, picture = params.recipe(phase), workspace.range_test(phase)
    shown = _show_phase(params, phase) | {"lr_finder": params.lr_finder.model_dump()}
    with (
        open_single_run(f"lr-find@{phase}", workspace, shown) as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        drawn = Split.read(workspace.split)
        classifier, train_batches, _ = prepare_phase(workspace, params, phase, drawn)
        network = make_network(classifier, train_batches, recipe)
        if has_constant_features(recipe, train_batches):
            path = Path(folder) / "features.npy"
            train_batches, _ = cache_features(classifier, train_batches, train_batches, path)
        test = find_learning_rate(network, train_batches, recipe, params.lr_finder)
        with writing(picture) as path:
            path.write_bytes(draw_range_test(test, params.report.colour))
        run.log_file(picture)
        for step, (rate, loss) in enumerate(zip(test.rates, test.losses, strict=True)):
            run.log_metrics({"learning_rate": rate, "objective": loss}, step=step)
        run.log_metrics({"suggested_learning_rate": test.suggestion})
        print(draw_in_terminal(test))
        print(
            f"lr-find: the loss of {phase} falls fastest at {test.suggestion:.1e}; see "
            f"{workspace.relative(picture)}. Set phases.{phase}.learning_rate to it, or, for a "
            "schedule that comes back down, to somewhat more."
        )


def _make_batches(
    workspace: Workspace,
    params: Params,
    phase: str,
    targets: dict[str, npt.NDArray[np.float32]],
    training_rows: npt.NDArray[np.intp],
    validation_rows: npt.NDArray[np.intp],
) -> tuple["ImageBatches", "ImageBatches"]:
    """Makes the training and the validation batches of a phase."""
    from person_attributes.data.augment import Augmenter, check_policies
    from person_attributes.data.batches import ImageBatches
    from person_attributes.data.mixing import Mixer

    section = params.phases[phase]
    images = open_pack(workspace.pack(section.image_size))
    policy = params.augmentation[section.augmentation]
    check_policies({section.augmentation: policy}, [section.image_size])
    train = ImageBatches(
        images,
        targets,
        training_rows,
        section.batch_size,
        augmenter=Augmenter(policy) if policy.augmenters else None,
        mixer=Mixer(policy) if policy.mixes else None,
        seed=_phase_seed(params.seed, phase),
        workers=0 if policy.is_identity else params.runtime.workers,
    )
    validation = ImageBatches(
        images,
        targets,
        validation_rows,
        section.batch_size,
        augmenter=None,
        seed=None,
    )
    return train, validation


def _draw_policy(images: "Images", policy: AugmentationParams) -> bytes:
    """Draws images as they are, then as the policy changes them, draw after draw."""
    from person_attributes.data.augment import Augmenter
    from person_attributes.data.mixing import Mixer
    from person_attributes.drawing.figures import draw_mosaic

    augment, mix = Augmenter(policy), Mixer(policy)
    columns = [images]
    for seed in range(_SHOWN_DRAWS):
        changed = augment(images, seed)
        columns.append(mix(changed, {}, {}, seed)[0] if policy.mixes else changed)
    return draw_mosaic(columns)


def _fingerprint(params: dict[str, Any], inputs: dict[str, str]) -> str:
    """Names everything that a phase's result depends on: numbers, inputs, code and libraries."""
    import keras

    package = Path(__file__).parent.parent
    code = ("training", "modeling", "data/augment.py", "data/batches.py", "data/mixing.py")
    return combine(
        {
            "params": params,
            "inputs": inputs,
            "code": {name: digest_path(package / name, "*.py") for name in code},
            "libraries": [keras.backend.backend(), keras.__version__, np.__version__],
        }
    )


def _phase_seed(seed: int, phase: str) -> int:
    return zlib.crc32(f"{seed}/{phase}".encode())


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


def _write_weights(run: "Run", workspace: Workspace, phase: str, classifier: "keras.Model") -> None:
    """Writes the weights without the optimizer's state, and logs them as a Keras model.

    The same layers as a network that was never compiled: it has no optimizer to save, which is a
    third of the size.
    """
    import keras

    plain = keras.Model(classifier.inputs, classifier.output, name=classifier.name)
    with writing(workspace.weights(phase)) as path:
        plain.save_weights(path)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{phase}.keras"
        plain.save(model)
        run.log_file(model, "model")


def _find_idle_heads(
    targets: "Mapping[str, npt.NDArray[np.float32]]",
    training_rows: npt.NDArray[np.intp],
    validation_rows: npt.NDArray[np.intp],
    best: dict[str, float],
    least_progress: float,
) -> list[str]:
    """Lists the heads whose validation loss is about that of always saying the class shares."""
    from person_attributes.evaluation.metrics import shares_loss

    return [
        head
        for head, target in targets.items()
        if best[f"val_{head}_loss"]
        > (1 - least_progress) * shares_loss(target[validation_rows], target[training_rows])
    ]
