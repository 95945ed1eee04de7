"""Ablations: compares one recipe with variants of one change each, on the same rows and budget.

    python -m experiments.ablation hyperparameters run hvc_data.zip    # resumes; several at once
    python -m experiments.ablation hyperparameters table               # of the finished runs

`hyperparameters` is the plan `experiments/ablation_hyperparameters.yaml`, which adds settings to
the article's recipe; the plan `best` removes parts of our recipe. Files go to the folder
`ablation/PLAN-DIGEST/`, with a digest of the recipe; its `mlflow.db` contains the runs. Scores are
of held-out test rows; validation rows lower the learning rate and select the epoch.
"""

import argparse
import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import keras
import numpy as np
import numpy.typing as npt

from person_attributes.commands.sweep.trial import run_trial
from person_attributes.config import Params, read_params, read_yaml
from person_attributes.data.batches import ImageBatches
from person_attributes.data.dataset import Dataset
from person_attributes.data.split import TEST, TRAIN, Split
from person_attributes.digests import combine
from person_attributes.evaluation.metrics import SMALLEST_PROBABILITY, prior_loss, sum_up
from person_attributes.evaluation.predictions import predict_batches
from person_attributes.files import writing
from person_attributes.pipeline.encode import encode
from person_attributes.pipeline.ingest import ingest
from person_attributes.pipeline.members import load_scored_network
from person_attributes.pipeline.pack import pack
from person_attributes.pipeline.select import copy_weights
from person_attributes.pipeline.split import split
from person_attributes.tracking.trials import open_sweep_run, open_trial_run
from person_attributes.workspace import Workspace

_ROOT = Path(__file__).parent.parent
_BOOTSTRAP_SAMPLES = 2000
_ByHead = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Plan:
    """A recipe and its variants, as changes by name; the first variant has no changes."""

    name: str
    params: Params
    variants: dict[str, dict[str, Any]]
    seeds: list[int]

    @property
    def workspace(self) -> Workspace:
        recipe = self.params.model_dump(
            mode="json",
            exclude={"data": {"source"}, "runtime": True, "sweep": True},  # `table` needs no source
        )
        return Workspace(Path("ablation", f"{self.name}-{combine(recipe)[:8]}").resolve())

    def answers(self, variant: str, seed: int) -> Path:
        """Returns the file for the probabilities of a run; its name has a digest of the variant."""
        name = f"{variant.replace(' ', '_')}-{combine(self.variants[variant])[:8]}-{seed}.npz"
        return self.workspace.root / "answers" / name


def _read_plan(name: str, source: str = "") -> Plan:
    content = read_yaml(Path(__file__).with_name(f"ablation_{name}.yaml"))
    changes = {"data.source": source, "sweep.name": name} | content["changes"]
    params = read_params(_ROOT / content["recipe"]).change(changes)
    plan = Plan(name, params, content["variants"], content["seeds"])
    _refuse_shared_packs(plan)
    return plan


def _refuse_shared_packs(plan: Plan) -> None:
    """Raises if two variants would write different packs of one size."""
    black_bars: dict[int | str, str] = {}
    for variant, changes in plan.variants.items():
        changed = plan.params.change(changes)
        size, setting = changed.evaluated_image_size, changed.data.black_bars
        if black_bars.setdefault(size, setting) != setting:
            raise SystemExit(
                f"{plan.name}: {variant}: another variant has images of {size} with another "
                "data.black_bars. Give one of them another size."
            )


def run(plan: Plan) -> None:
    """Runs all variants and seeds that are missing; several processes may run it at once."""
    workspace = plan.workspace
    # In the order of the plan: channel statistics are measured on the first size.
    sizes = dict.fromkeys(
        size for changes in plan.variants.values() for size in _sizes(plan, changes)
    )
    everything = plan.params.change({"data.image_sizes": list(sizes)})
    workspace.root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(workspace.root / "data.lock"):
        if not workspace.one_hot.exists():
            ingest(workspace, everything)
            encode(workspace, everything)
        for changes in plan.variants.values():
            for size in _sizes(plan, changes):
                if not workspace.pack(size).exists():
                    pack(workspace, everything.change(changes), size)
        if not workspace.split.exists():
            split(workspace, everything)
    alone = filelock.FileLock(workspace.root / "run.lock")
    with open_sweep_run(workspace, plan.name, {"variants": list(plan.variants)}, alone) as run_id:
        for variant, changes in plan.variants.items():
            for seed in plan.seeds:
                changed = everything.change({"seed": seed, **changes})
                with _claim(plan.answers(variant, seed)) as path:
                    if path is not None:
                        y_prob = _train(plan, everything, changed, variant, run_id)
                        with writing(path) as temporary, temporary.open("wb") as file:
                            np.savez(file, allow_pickle=False, **y_prob)
                        print(f"{variant}, seed {seed}: complete", flush=True)


def _sizes(plan: Plan, changes: dict[str, Any]) -> list[int | str]:
    sizes: list[int | str] = changes.get("data.image_sizes", list(plan.params.data.image_sizes))
    return sizes


@contextlib.contextmanager
def _claim(path: Path) -> Iterator[Path | None]:
    """Yields the path to write, or None if it exists or another process works on it."""
    path.parent.mkdir(exist_ok=True)
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield None
        return
    with lock:
        yield None if path.exists() else path


def _train(plan: Plan, params: Params, changed: Params, variant: str, sweep_run_id: str) -> _ByHead:
    """Trains one variant; returns its probabilities for the test rows."""
    workspace = plan.workspace
    place = workspace.trial(plan.name, f"{variant.replace(' ', '_')}-{changed.seed}")
    name = f"{variant}, seed {changed.seed}"
    with open_trial_run(workspace, plan.name, sweep_run_id, name, None) as trial:
        run_trial(workspace, place, params, changed, trial, lambda epoch, metrics: None)
        copy_weights(place, changed)
        network = load_scored_network(place, changed)
        dataset = Dataset(place, changed.evaluated_image_size)
        test = dataset.select(_test_rows(plan))
        batches = ImageBatches(
            dataset.images, dataset.targets, test.positions, 64, augmenter=None, seed=None
        )
        y_prob = predict_batches(network, batches)
        trial.log_value("test_loss", sum_up(test.targets, y_prob)["loss"])
    keras.backend.clear_session()
    shutil.rmtree(place.root)
    return dict(y_prob)


def _test_rows(plan: Plan) -> tuple[int, ...]:
    """Returns the test rows of the plan, also for a variant with another split."""
    return Split.read(plan.workspace.split).parts[TEST]


def table(plan: Plan) -> str:
    """Formats the finished runs as a Markdown table, the largest improvement first."""
    answers = {}
    for variant in plan.variants:
        paths = [plan.answers(variant, seed) for seed in plan.seeds]
        if all(path.exists() for path in paths):
            answers[variant] = [dict(np.load(path)) for path in paths]
    name = next(iter(plan.variants))
    if name not in answers:
        raise SystemExit(f"{plan.name}: {name}: missing seeds. Run the plan first.")
    dataset = Dataset(plan.workspace, plan.params.data.image_sizes[0])
    rows, y_true = dataset.part(TEST).rows, dataset.part(TEST).targets
    random = np.random.default_rng(0)
    draws = random.integers(0, len(rows), (_BOOTSTRAP_SAMPLES, len(rows)))
    scored = {
        variant: np.stack([_score_rows(y_true, y_prob) for y_prob in of_seeds])
        for variant, of_seeds in answers.items()
    }
    base = scored.pop(name)
    y_train = dataset.part(TRAIN).targets
    prior = sum(prior_loss(y_true[head], y_train[head]) for head in y_true)
    losses, accuracies = base.mean(axis=(0, 2))
    lines = [
        f"{len(rows)} test rows, seeds {plan.seeds}, {plan.params.phases['p1'].epochs} epochs. "
        f"Predicting the class prior: loss {prior:.3f}.",
        "",
        "| | loss | decrease | by seed | mean accuracy | increase | by seed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| {name} | {losses:.3f} | | | {accuracies:.3f} | | |",
    ]
    for variant, scores in sorted(scored.items(), key=lambda entry: entry[1][:, 0].mean()):
        cells = [variant]
        for metric, sign in ((0, -1), (1, 1)):
            gains = float(sign) * (scores[:, metric] - base[:, metric])
            cells.append(f"{scores[:, metric].mean():.3f}")
            cells += _format_gains(gains, draws)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _format_gains(gains: npt.NDArray[np.float64], draws: npt.NDArray[np.intp]) -> list[str]:
    """Formats the mean of gains, (seeds, rows), with its interval, and the gain of each seed.

    The interval is bootstrapped over rows and ignores the variance between seeds. So a gain is bold
    only if the interval excludes 0 and all seeds have the same sign.
    """
    low, high = np.quantile(gains.mean(axis=0)[draws].mean(axis=1), [0.025, 0.975])
    by_seed = gains.mean(axis=1)
    agrees = (low > 0 and (by_seed > 0).all()) or (high < 0 and (by_seed < 0).all())
    mark = "**" if agrees else ""
    whole = f"{mark}{gains.mean():+.3f}{mark} ({low:+.3f} to {high:+.3f})"
    return [whole, ", ".join(f"{gain:+.3f}" for gain in by_seed)]


def _score_rows(y_true: _ByHead, y_prob: _ByHead) -> npt.NDArray[np.float64]:
    """Computes the loss and the accuracy of each row over its labels, (2, n)."""
    losses, hits = [], []
    for head, truth in y_true.items():
        is_labelled = truth.any(axis=1)
        picked = np.clip((truth * y_prob[head]).sum(axis=1), SMALLEST_PROBABILITY, 1)
        losses.append(np.where(is_labelled, -np.log(picked), 0))
        is_hit = truth.argmax(axis=1) == y_prob[head].argmax(axis=1)
        hits.append(np.where(is_labelled, is_hit, np.nan))
    return np.stack([np.sum(losses, axis=0), np.nanmean(hits, axis=0)])


def main() -> None:
    """Runs a plan or prints its table."""
    parser = argparse.ArgumentParser("python -m experiments.ablation")
    parser.add_argument("plan", choices=["hyperparameters", "best"])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("source", type=Path)
    commands.add_parser("table")
    options = parser.parse_args()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if options.command == "run":
        run(_read_plan(options.plan, str(options.source.resolve())))
    else:
        print(table(_read_plan(options.plan)))


if __name__ == "__main__":
    main()
