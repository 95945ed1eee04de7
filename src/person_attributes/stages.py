"""One function per DVC stage: read, call, write, log.

Only this room sees all of `Params` and knows which files a stage reads and writes. Heavy libraries
are imported inside the stages that use them, so that cheap stages stay cheap.
"""

import contextlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import INITIAL, Params
from person_attributes.data.annotations import ingest_annotations, read_records, write_records
from person_attributes.data.archive import open_source
from person_attributes.data.packs import channel_statistics, open_pack, pack_images
from person_attributes.data.sample import draw_sample
from person_attributes.data.split import Split, find_positions, split_records
from person_attributes.digests import (
    combine,
    digest_path,
    digest_paths,
    read_lock,
    recorded_outputs,
)
from person_attributes.errors import SplitError
from person_attributes.labels import LabelMap
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    import keras

    from person_attributes.data.batches import ImageBatches
    from person_attributes.evaluation.metrics import Scores
    from person_attributes.evaluation.predictions import Probabilities
    from person_attributes.modeling.classifier import Normalization
    from person_attributes.tracking.runs import Run
    from person_attributes.training.resume import Backup

_GRID_IMAGES = 18


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Gives a temporary path that takes the place of `path` once everything is written.

    A stage that fails leaves the output of the time before untouched; what a killed one left
    behind is cleared by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{path.name}")
    _remove(temporary)
    try:
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _open_run(
    stage: str,
    workspace: Workspace,
    params: Params,
    sections: set[str],
    reads: list[Path],
    writes: list[Path],
) -> Iterator["Run"]:
    from person_attributes.tracking.runs import open_run

    with open_run(
        stage,
        workspace,
        params.model_dump(include=sections),
        params.model_dump(),
        digest_paths(workspace.root, reads),
        writes,
    ) as run:
        yield run


def sample(workspace: Workspace, params: Params) -> None:
    """Draws the embedded sample."""
    with _open_run(
        "sample", workspace, params, {"seed", "sample"}, reads=[], writes=[workspace.sample]
    ) as run:
        with _writing(workspace.sample) as folder:
            folder.mkdir()
            draw_sample(folder, params.sample.images, params.sample.image_size, params.seed)
        run.log_metrics({"images": params.sample.images})
        run.log_file(workspace.sample / "hvc_annotations.csv")
        print(f"sample: drew {params.sample.images} people")


def ingest(workspace: Workspace, params: Params) -> None:
    """Checks annotations and images; writes records and quarantine."""
    from person_attributes.evaluation.figures import draw_class_shares

    source_path = workspace.root / params.data.source
    writes = [workspace.records, workspace.quarantine]
    with _open_run("ingest", workspace, params, {"data", "heads"}, [source_path], writes) as run:
        ingested = ingest_annotations(open_source(source_path), params.data, params.heads)
        with _writing(workspace.records) as path:
            write_records(ingested.records, path)
        with _writing(workspace.quarantine) as path:
            ingested.quarantine.to_csv(path, index=False, lineterminator="\n")
        shares = _class_shares(ingested.records, make_label_map(params))
        run.log_metrics({"records": len(ingested.records), "quarantined": len(ingested.quarantine)})
        run.log_metrics(_name_shares(shares))
        run.log_dataset(
            ingested.records.reset_index(), "records", params.data.source, context="ingest"
        )
        run.log_file(workspace.quarantine)
        run.log_bytes(draw_class_shares(shares, params.report.colour), "class_shares.png")
        print(
            f"ingest: {len(ingested.records)} records, {len(ingested.quarantine)} rows quarantined"
        )
        for reason, count in ingested.quarantine["reason"].value_counts().head(5).items():
            print(f"  {count} x {reason}, see {workspace.relative(workspace.quarantine)}")


def encode(workspace: Workspace, params: Params) -> None:
    """Makes the one-hot columns and the label map."""
    writes = [workspace.one_hot, workspace.label_map]
    with _open_run("encode", workspace, params, {"heads"}, [workspace.records], writes) as run:
        records, label_map = read_records(workspace.records), make_label_map(params)
        matrix = np.concatenate(list(label_map.encode(records).values()), axis=1).astype(np.uint8)
        one_hot = pd.DataFrame(matrix, columns=label_map.one_hot_columns, index=records.index)
        with _writing(workspace.one_hot) as path:
            one_hot.to_csv(path, lineterminator="\n")
        with _writing(workspace.label_map) as path:
            label_map.write(path)
        run.log_metrics({"records": len(records), "one_hot_columns": one_hot.shape[1]})
        run.log_metrics(_name_shares(_class_shares(records, label_map)))
        run.log_dataset(one_hot.reset_index(), "one_hot", params.data.source, context="encode")
        run.log_file(workspace.label_map)
        print(f"encode: {one_hot.shape[1]} one-hot columns for {len(label_map.heads)} heads")


def split(workspace: Workspace, params: Params) -> None:
    """Draws training and validation rows."""
    from person_attributes.evaluation.figures import draw_class_shares

    with _open_run(
        "split", workspace, params, {"seed", "split"}, [workspace.records], [workspace.split]
    ) as run:
        records = read_records(workspace.records)
        drawn = split_records(records, params.split.validation_share, params.seed)
        with _writing(workspace.split) as path:
            drawn.write(path)
        for context, rows in (("training", drawn.train), ("validation", drawn.validation)):
            part = records.loc[list(rows)]
            shares = _class_shares(part, make_label_map(params))
            run.log_metrics({f"{context}_rows": len(rows)})
            run.log_metrics(_name_shares(shares, f"{context}_"))
            run.log_dataset(part.reset_index(), context, params.data.source, context=context)
            picture = draw_class_shares(shares, params.report.colour)
            run.log_bytes(picture, f"class_shares_{context}.png")
        run.set_tags({"split.digest": drawn.digest})
        run.log_file(workspace.split)
        print(
            f"split: {len(drawn.train)} training and {len(drawn.validation)} validation rows, "
            f"digest {drawn.digest}"
        )


def pack(workspace: Workspace, params: Params, image_size: int) -> None:
    """Decodes every image once into an array of one size."""
    from person_attributes.evaluation.figures import draw_sample_grid

    path = workspace.pack(image_size)
    source_path = workspace.root / params.data.source
    reads = [source_path, workspace.records]
    with _open_run(f"pack@{image_size}", workspace, params, {"data"}, reads, [path]) as run:
        records = read_records(workspace.records)
        with _writing(path) as temporary:
            pack_images(open_source(source_path), list(records["image"]), image_size, temporary)
        images = open_pack(path)
        captions = [
            "\n".join(str(label) for label in labels)
            for labels in records.drop(columns="image").head(_GRID_IMAGES).to_numpy()
        ]
        grid = draw_sample_grid(images[:_GRID_IMAGES], captions, columns=6)
        run.log_bytes(grid, "labelled_images.png")
        run.log_metrics({"images": len(images), "megabytes": images.nbytes / 1e6})
        print(f"pack: {len(images)} images at {image_size} px, {images.nbytes / 1e6:.0f} MB")


def initialize(workspace: Workspace, params: Params) -> None:
    """Measures the training rows' channels and writes the first random weights."""
    import keras

    from person_attributes.evaluation.figures import draw_network
    from person_attributes.modeling.classifier import Normalization

    image_size = params.data.image_sizes[0]
    writes = [workspace.weights(INITIAL), workspace.normalization, workspace.network_picture]
    reads = [
        workspace.pack(image_size),
        workspace.records,
        workspace.split,
        workspace.label_map,
    ]
    with _open_run("initialize", workspace, params, {"seed", "model"}, reads, writes) as run:
        records, drawn = read_records(workspace.records), Split.read(workspace.split)
        mean, deviation = channel_statistics(
            open_pack(workspace.pack(image_size)), find_positions(records, drawn.train)
        )
        normalization = Normalization(mean, deviation)
        keras.utils.set_random_seed(params.seed)
        classifier = _build(workspace, params, image_size, normalization)
        with _writing(workspace.normalization) as path:
            _write_json(path, normalization.to_dict())
        with _writing(workspace.weights(INITIAL)) as path:
            classifier.save_weights(path)
        with _writing(workspace.network_picture) as path:
            path.write_bytes(draw_network(classifier))
        trainable = sum(int(np.prod(weight.shape)) for weight in classifier.trainable_weights)
        run.log_metrics({"weights": classifier.count_params(), "trainable_weights": trainable})
        run.log_metrics(
            {f"mean_{channel}": value for channel, value in zip("rgb", mean, strict=True)}
        )
        run.log_file(workspace.normalization)
        run.log_file(workspace.network_picture)
        print(f"initialize: {classifier.count_params():,} weights, {trainable:,} of them trainable")


def train(workspace: Workspace, params: Params, phase: str) -> None:
    """Trains one phase from the best weights of the one that it starts from."""
    from person_attributes.tracking.journal import Journal
    from person_attributes.tracking.runs import Continuation, open_run
    from person_attributes.training.resume import Backup

    section = params.phases[phase]
    reads = [
        workspace.weights(section.starts_from),
        workspace.normalization,
        workspace.pack(section.image_size),
        workspace.records,
        workspace.one_hot,
        workspace.label_map,
        workspace.split,
    ]
    writes = [workspace.weights(phase), workspace.provenance(phase), workspace.history(phase)]
    shown = params.model_copy(
        update={
            "phases": {phase: section},
            "augmentation": {section.augmentation: params.augmentation[section.augmentation]},
        }
    ).model_dump(include={"seed", "model", "training", "phases", "augmentation"})
    inputs = digest_paths(workspace.root, reads)
    fingerprint = _fingerprint(shown, inputs)
    backup = Backup(workspace.backups, phase, fingerprint, params.runtime.backup_minutes)
    with backup.hold(waits=workspace.is_copy):
        if _stands(workspace, f"train@{phase}", writes, backup):
            print(f"{phase}: was done when it was stopped; its outputs stand")
            return
        continuation = Continuation(
            fingerprint, Journal(backup.journal), params.runtime.tracking_minutes
        )
        with open_run(
            f"train@{phase}", workspace, shown, params.model_dump(), inputs, writes, continuation
        ) as run:
            _train(workspace, params, phase, backup, run)
        backup.finish(digest_paths(workspace.root, writes))


def _train(workspace: Workspace, params: Params, phase: str, backup: "Backup", run: "Run") -> None:
    """Reads, trains, writes and logs a phase."""
    import keras

    from person_attributes.training.phase import has_constant_features, train_phase
    from person_attributes.training.runtime import configure_runtime

    section = params.phases[phase]
    configure_runtime(params.training)
    keras.utils.set_random_seed(_phase_seed(params.seed, phase))
    drawn = Split.read(workspace.split)
    classifier = _build(workspace, params, section.image_size)
    classifier.load_weights(workspace.weights(section.starts_from))
    records, targets = read_records(workspace.records), _read_targets(workspace)
    training_rows = find_positions(records, drawn.train)
    validation_rows = find_positions(records, drawn.validation)
    train_batches, validation_batches = _make_batches(
        workspace, params, phase, targets, training_rows, validation_rows
    )
    is_cached = has_constant_features(section, train_batches)
    if is_cached:
        print(f"{phase}: the backbone is frozen, nothing augmented: features are computed once")
    run.set_tags({"split.digest": drawn.digest, f"{phase}.features_once": str(is_cached).lower()})
    trained = train_phase(
        classifier,
        train_batches,
        validation_batches,
        section,
        params.training,
        backup,
        listeners=[
            lambda epoch, figures: run.log_metrics(figures, step=epoch),
            lambda epoch, figures: _print_epoch(phase, epoch, section.epochs, figures),
        ],
    )
    best = trained.history[trained.best_epoch]
    run.log_results({f"{phase}_{name}": best[name] for name in ("val_loss", "val_mean_accuracy")})
    run.log_metrics({"best_epoch": trained.best_epoch + 1})
    run.flush()
    _write_weights(run, workspace, phase, classifier)
    history = pd.DataFrame(trained.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    with _writing(workspace.history(phase)) as path:
        history.to_csv(path, index=False, lineterminator="\n")
    with _writing(workspace.provenance(phase)) as path:
        _write_json(path, {"split_digest": drawn.digest, "training_rows": len(drawn.train)})
    print(
        f"{phase}: kept epoch {trained.best_epoch + 1} of {len(history)}, validation loss "
        f"{best['val_loss']:.3f}, mean accuracy {best['val_mean_accuracy']:.3f}"
    )
    idle = _find_idle_heads(
        targets, training_rows, validation_rows, best, params.training.least_progress
    )
    run.set_tags({f"{phase}.learned_nothing": ", ".join(idle)})
    if idle:
        print(
            f"{phase}: learned nothing of {', '.join(idle)}: the loss is no lower than that of "
            "always saying the class shares. Train longer, raise learning_rate, or look at the "
            "labels."
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
    from person_attributes.data.augment import Augmenter
    from person_attributes.data.batches import ImageBatches

    section = params.phases[phase]
    images = open_pack(workspace.pack(section.image_size))
    policy = params.augmentation[section.augmentation]
    train = ImageBatches(
        images,
        targets,
        training_rows,
        params.training.batch_size,
        augmenter=None if policy.is_identity else Augmenter(policy),
        seed=_phase_seed(params.seed, phase),
        workers=0 if policy.is_identity else params.runtime.workers,
    )
    validation = ImageBatches(
        images,
        targets,
        validation_rows,
        params.training.batch_size,
        augmenter=None,
        seed=None,
    )
    return train, validation


def _fingerprint(params: dict[str, Any], inputs: dict[str, str]) -> str:
    """Names everything that a phase's result depends on: numbers, inputs, code and libraries."""
    import keras

    package = Path(__file__).parent
    code = ("training", "modeling", "data/augment.py", "data/batches.py")
    return combine(
        {
            "params": params,
            "inputs": inputs,
            "code": {name: digest_path(package / name, "*.py") for name in code},
            "libraries": [keras.backend.backend(), keras.__version__, np.__version__],
        }
    )


def _stands(workspace: Workspace, stage: str, writes: list[Path], backup: "Backup") -> bool:
    """Says whether a phase was done, but stopped before DVC had noted it.

    Where DVC had noted it, it is run again on purpose, and what was kept is cleared.
    """
    outputs = backup.finished_outputs()
    if outputs is None:
        return False
    written = digest_paths(workspace.root, writes)
    recorded = recorded_outputs(read_lock(workspace.dvc_lock), stage)
    if outputs == written and outputs != recorded:
        return True
    backup.forget()
    return False


def evaluate(workspace: Workspace, params: Params) -> None:
    """Scores every validation row and writes numbers, figures and the report page."""
    from person_attributes.data.batches import ImageBatches
    from person_attributes.evaluation import metrics, report
    from person_attributes.evaluation.predictions import predict_batches

    phase = params.evaluation.phase
    image_size = params.phases[phase].image_size
    reads = [
        workspace.weights(phase),
        workspace.provenance(phase),
        workspace.normalization,
        workspace.pack(image_size),
        workspace.records,
        workspace.one_hot,
        workspace.label_map,
        workspace.split,
        *(workspace.history(name) for name in params.phases),
    ]
    writes = [
        workspace.metrics,
        workspace.heads,
        workspace.learning_curves,
        workspace.confusions,
        workspace.evaluation_page,
        workspace.predictions,
        workspace.probabilities,
    ]
    sections = {"seed", "evaluation", "report"}
    with _open_run("evaluate", workspace, params, sections, reads, writes) as run:
        drawn = Split.read(workspace.split)
        _refuse_trained_rows(workspace, phase, drawn)
        classifier = _build(workspace, params, image_size)
        classifier.load_weights(workspace.weights(phase))
        records, targets = read_records(workspace.records), _read_targets(workspace)
        images = open_pack(workspace.pack(image_size))
        positions = find_positions(records, drawn.validation)
        trained = find_positions(records, drawn.train)
        batch_size = params.evaluation.batch_size
        y_prob = predict_batches(
            classifier,
            ImageBatches(images, targets, positions, batch_size, augmenter=None, seed=None),
        )
        y_true = {head: target[positions] for head, target in targets.items()}
        scores = metrics.score(
            y_true,
            y_prob,
            {head: target[trained] for head, target in targets.items()},
            confidence=params.evaluation.confidence,
            bootstrap_samples=params.evaluation.bootstrap_samples,
            seed=params.seed,
        )
        curves = _read_learning_curves(workspace, params)
        _write_scores(workspace, scores, curves)
        label_map = LabelMap.read(workspace.label_map)
        _write_predictions(workspace, label_map, drawn.validation, y_true, y_prob)
        mistakes = {
            head: report.find_mistakes(
                y_true[head],
                y_prob[head],
                label_map.classes[head],
                drawn.validation,
                images,
                positions,
                params.evaluation.mistakes_per_head,
            )
            for head in label_map.heads
        }
        pictures = _draw_pictures(scores, curves, label_map, y_true, y_prob, params.report.colour)
        page = report.render_report(
            scores, pictures, mistakes, params.report.colour, params.evaluation.confidence
        )
        with _writing(workspace.evaluation_page) as path:
            path.write_text(page, encoding="utf-8")
        for title, picture in pictures.items():
            run.log_bytes(picture, f"{title.lower().replace(' ', '_')}.png")
        run.log_file(workspace.evaluation)
        run.log_results(scores.to_metrics())
        run.set_tags({"split.digest": drawn.digest})
        run.log_file(workspace.heads)
        print(report.format_table(scores.heads, scores.to_metrics()))


def register(workspace: Workspace, params: Params) -> None:
    """Exports, checks, logs and registers the model; moves the alias where the gate holds."""
    from person_attributes import registry
    from person_attributes.tracking import runs

    phase = params.evaluation.phase
    image_size = params.phases[phase].image_size
    reads = [
        workspace.weights(phase),
        workspace.normalization,
        workspace.label_map,
        workspace.pack(image_size),
        workspace.records,
        workspace.split,
        workspace.metrics,
        workspace.probabilities,
    ]
    with _open_run("register", workspace, params, {"registry"}, reads, writes=[]) as run:
        drawn = Split.read(workspace.split)
        scores = json.loads(workspace.metrics.read_text(encoding="utf-8"))
        classifier = _build(workspace, params, image_size)
        classifier.load_weights(workspace.weights(phase))
        with tempfile.TemporaryDirectory() as folder:
            network = Path(folder) / "network.onnx"
            registry.export_network(classifier, network)
            difference = registry.check_export(
                network,
                open_pack(workspace.pack(image_size)),
                find_positions(read_records(workspace.records), drawn.validation),
                dict(np.load(workspace.probabilities)),
                params.registry.max_export_difference,
            )
            version = registry.log_model(
                network, workspace.label_map, workspace.weights(phase), params.registry.model_name
            )
        client = runs.connect(workspace)
        registered = registry.promote_if_better(
            client, version, scores["mean_accuracy"], drawn.validation_digest, params.registry
        )
        run.log_metrics({"export_difference": difference})
        run.log_results(scores)
        run.set_tags({"registered_version": version, "gate.reason": registered.reason})
        print(
            f"register: {params.registry.model_name} version {version} "
            f"{'is' if registered.is_champion else 'is not'} {params.registry.alias}: "
            f"{registered.reason}"
        )


def check(workspace: Workspace, params: Params) -> None:
    """Checks that the data source is there; `params.yaml` was checked when it was read."""
    source = workspace.root / params.data.source
    if source != workspace.sample:
        open_source(source)


def summarize(workspace: Workspace, params: Params) -> None:
    """Prints the last evaluation, the champion, and what to type next."""
    from person_attributes.evaluation import report
    from person_attributes.tracking import runs

    heads = pd.read_csv(workspace.heads, index_col="head")
    scores = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    name, alias = params.registry.model_name, params.registry.alias
    champion = runs.connect(workspace).get_model_version_by_alias(name, alias)
    print(f"\n{report.format_table(heads, scores)}\n")
    print(f"report            {workspace.relative(workspace.evaluation_page)}")
    print(f"registered model  {name} version {champion.version}, alias {alias}")
    print("\ncompare runs      MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1")
    print(f"serve the model   mlflow models serve -m models:/{name}@{alias} --env-manager uv")


def make_label_map(params: Params) -> LabelMap:
    """Makes the label map of the declared heads."""
    return LabelMap(
        classes={name: head.classes for name, head in params.heads.items()},
        columns={name: head.column for name, head in params.heads.items()},
    )


def _class_shares(records: pd.DataFrame, label_map: LabelMap) -> dict[str, dict[str, float]]:
    return {
        head: {name: float((records[head] == name).mean()) for name in label_map.classes[head]}
        for head in label_map.heads
    }


def _name_shares(shares: dict[str, dict[str, float]], prefix: str = "") -> dict[str, float]:
    """Names shares by the number of the class: MLflow does not accept what class names hold."""
    return {
        f"{prefix}{head}_share_{number}": share
        for head, classes in shares.items()
        for number, share in enumerate(classes.values())
    }


def _build(
    workspace: Workspace,
    params: Params,
    image_size: int,
    normalization: "Normalization | None" = None,
) -> "keras.Model":
    from person_attributes.modeling.classifier import Normalization, build_classifier

    if normalization is None:
        content = json.loads(workspace.normalization.read_text(encoding="utf-8"))
        normalization = Normalization(**content)
    class_counts = LabelMap.read(workspace.label_map).class_counts
    return build_classifier(image_size, class_counts, params.model, normalization)


def _read_targets(workspace: Workspace) -> dict[str, npt.NDArray[np.float32]]:
    """Reads the one-hot columns of all records as `{head: (n, classes) float32}`."""
    one_hot = pd.read_csv(workspace.one_hot, index_col="row").to_numpy(np.float32)
    class_counts = LabelMap.read(workspace.label_map).class_counts
    parts = np.split(one_hot, np.cumsum(list(class_counts.values()))[:-1], axis=1)
    return dict(zip(class_counts, parts, strict=True))


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
    with _writing(workspace.weights(phase)) as path:
        plain.save_weights(path)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{phase}.keras"
        plain.save(model)
        run.log_file(model, "model")


def _find_idle_heads(
    targets: dict[str, npt.NDArray[np.float32]],
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


def _refuse_trained_rows(workspace: Workspace, phase: str, drawn: Split) -> None:
    """Refuses to score a network that was trained under another split: rows would leak."""
    trained = json.loads(workspace.provenance(phase).read_text(encoding="utf-8"))
    if trained["split_digest"] != drawn.digest:
        raise SplitError(
            f"{workspace.relative(workspace.provenance(phase))}: {phase} was trained under another "
            f"split. Expected digest {drawn.digest}. Received: {trained['split_digest']}. "
            "Its training rows may be among the rows to score: run dvc repro."
        )


def _read_learning_curves(workspace: Workspace, params: Params) -> pd.DataFrame:
    """Puts the histories of the phases end to end: columns `epoch`, `phase`, then the figures."""
    histories = {phase: pd.read_csv(workspace.history(phase)) for phase in params.phases}
    curves = pd.concat(histories, names=["phase"]).reset_index("phase")
    curves["epoch"] = range(1, len(curves) + 1)
    return curves


def _write_scores(workspace: Workspace, scores: "Scores", curves: pd.DataFrame) -> None:
    with _writing(workspace.heads) as path:
        scores.heads.to_csv(path, lineterminator="\n")
    with _writing(workspace.learning_curves) as path:
        curves.to_csv(path, index=False, lineterminator="\n")
    with _writing(workspace.metrics) as path:
        _write_json(path, scores.to_metrics())


def _write_predictions(
    workspace: Workspace,
    label_map: LabelMap,
    rows: tuple[int, ...],
    y_true: "Probabilities",
    y_prob: "Probabilities",
) -> None:
    """Writes what was said of each row, and pairs of true and predicted classes for the plots."""
    truth, prediction = label_map.decode(y_true), label_map.decode(y_prob)
    table = pd.DataFrame({"row": rows})
    for head in label_map.heads:
        table[f"{head}_true"] = truth[head]
        table[f"{head}_pred"] = prediction[head]
        table[f"{head}_prob"] = y_prob[head].max(axis=1).round(6)
    with _writing(workspace.predictions) as path:
        table.to_csv(path, index=False, lineterminator="\n")
    with _writing(workspace.probabilities) as path:
        np.savez(path, **dict(y_prob))
    with _writing(workspace.confusions) as folder:
        folder.mkdir()
        for head in label_map.heads:
            pairs = pd.DataFrame({"actual": truth[head], "predicted": prediction[head]})
            pairs.to_csv(folder / f"{head}.csv", index=False, lineterminator="\n")


def _draw_pictures(
    scores: "Scores",
    curves: pd.DataFrame,
    label_map: LabelMap,
    y_true: "Probabilities",
    y_prob: "Probabilities",
    colour: str,
) -> dict[str, bytes]:
    """Draws the figures of the report as PNG bytes by title, in the order to show them."""
    from person_attributes.evaluation import figures, metrics

    matrices = {head: metrics.confusion(y_true[head], y_prob[head]) for head in label_map.heads}
    return {
        "Accuracy of each head": figures.draw_head_accuracies(scores.heads, colour),
        "Learning curves": figures.draw_learning_curves(curves, colour),
        "Confusions": figures.draw_confusions(matrices, label_map.classes, colour),
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
