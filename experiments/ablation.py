"""Each variant alone against one recipe: same rows, same budget, several seeds.

    python -m experiments.ablation hyperparameters run hvc_data.zip    # again after a stop; several at once
    python -m experiments.ablation hyperparameters table               # of the runs that are done

`hyperparameters` is a plan, `experiments/ablation_hyperparameters.yaml`: what is added to the article's recipe;
`best` takes away from ours. Everything lies in a folder `ablation/PLAN-DIGEST/`, another one where
the recipe is another; every run is a run in its `mlflow.db` too. The test rows that are scored
chose nothing: validation rows lower the rate and choose the epoch.
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
from person_attributes.pipeline.networks import load_scored_network
from person_attributes.pipeline.pack import pack
from person_attributes.pipeline.split import split
from person_attributes.tracking.trials import open_sweep_run, open_trial_run
from person_attributes.workspace import Workspace

_ROOT = Path(__file__).parent.parent
_BOOTSTRAP_SAMPLES = 2000
_ByHead = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Plan:
    """What is compared: changes of one recipe, by name; the first changes nothing."""

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
        """Where the probabilities of one run lie; elsewhere where the variant means another thing."""
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
    """Packs are named by their size alone: two variants may not fill one in two ways."""
    black_bars: dict[int | str, str] = {}
    for variant, changes in plan.variants.items():
        changed = plan.params.change(changes)
        size, told = changed.phases[changed.evaluation.phase].image_size, changed.data.black_bars
        if black_bars.setdefault(size, told) != told:
            raise SystemExit(
                f"{plan.name}: {variant}: images of {size} stand in another variant with other black "
                "bars. Give one of them another size."
            )


def run(plan: Plan) -> None:
    """Runs what no process has run yet; may be started several times at once."""
    workspace = plan.workspace
    # In the plan's order: channels are measured on the first.
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
                        print(f"{variant}, seed {seed}: done", flush=True)


def _sizes(plan: Plan, changes: dict[str, Any]) -> list[int | str]:
    sizes: list[int | str] = changes.get("data.image_sizes", list(plan.params.data.image_sizes))
    return sizes


@contextlib.contextmanager
def _claim(path: Path) -> Iterator[Path | None]:
    """Gives a path to write to, or None where that is done or another process is at it."""
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
    """Trains one variant; gives its probabilities for the test rows."""
    workspace = plan.workspace
    place = workspace.trial(plan.name, f"{variant.replace(' ', '_')}-{changed.seed}")
    name = f"{variant}, seed {changed.seed}"
    with open_trial_run(workspace, plan.name, sweep_run_id, name, None) as trial:
        run_trial(workspace, place, params, changed, trial, lambda epoch, figures: None)
        network = load_scored_network(place, changed)
        dataset = Dataset(place, changed.phases[changed.evaluation.phase].image_size)
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
    """Gives the plan's own test rows, also where a variant draws its training rows anew."""
    return Split.read(plan.workspace.split).parts[TEST]


def table(plan: Plan) -> str:
    """Words what is done so far as Markdown, the largest gain first."""
    answers = {}
    for variant in plan.variants:
        paths = [plan.answers(variant, seed) for seed in plan.seeds]
        if all(path.exists() for path in paths):
            answers[variant] = [dict(np.load(path)) for path in paths]
    name = next(iter(plan.variants))
    if name not in answers:
        raise SystemExit(f"{plan.name}: {name}: not done with all seeds. Run the plan first")
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
    floor = sum(prior_loss(y_true[head], y_train[head]) for head in y_true)
    losses, accuracies = base.mean(axis=(0, 2))
    lines = [
        f"{len(rows)} test rows, seeds {plan.seeds}, {plan.params.phases['p1'].epochs} epochs. "
        f"Always saying the class shares: loss {floor:.3f}.",
        "",
        "| | loss | less than the recipe's | seed by seed | mean accuracy | more | seed by seed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| {name} | {losses:.3f} | | | {accuracies:.3f} | | |",
    ]
    for variant, scores in sorted(scored.items(), key=lambda entry: entry[1][:, 0].mean()):
        cells = [variant]
        for figure, sign in ((0, -1), (1, 1)):
            gains = float(sign) * (scores[:, figure] - base[:, figure])
            cells.append(f"{scores[:, figure].mean():.3f}")
            cells += _word_gains(gains, draws)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _word_gains(gains: npt.NDArray[np.float64], draws: npt.NDArray[np.intp]) -> list[str]:
    """Words gains, (seeds, rows), with their interval over rows, and what each seed has of them.

    Rows alone are drawn anew, so that the interval does not know how much another seed changes:
    in bold stands what the interval and every seed agree on.
    """
    low, high = np.quantile(gains.mean(axis=0)[draws].mean(axis=1), [0.025, 0.975])
    by_seed = gains.mean(axis=1)
    agrees = (low > 0 and (by_seed > 0).all()) or (high < 0 and (by_seed < 0).all())
    mark = "**" if agrees else ""
    whole = f"{mark}{gains.mean():+.3f}{mark} ({low:+.3f} to {high:+.3f})"
    return [whole, ", ".join(f"{gain:+.3f}" for gain in by_seed)]


def _score_rows(y_true: _ByHead, y_prob: _ByHead) -> npt.NDArray[np.float64]:
    """Gives for each row the sum of its losses and the mean of its hits over labels: (2, n)."""
    losses, hits = [], []
    for head, truth in y_true.items():
        is_labelled = truth.any(axis=1)
        picked = np.clip((truth * y_prob[head]).sum(axis=1), SMALLEST_PROBABILITY, 1)
        losses.append(np.where(is_labelled, -np.log(picked), 0))
        is_hit = truth.argmax(axis=1) == y_prob[head].argmax(axis=1)
        hits.append(np.where(is_labelled, is_hit, np.nan))
    return np.stack([np.sum(losses, axis=0), np.nanmean(hits, axis=0)])


def main() -> None:
    """Runs, or prints the table."""
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
