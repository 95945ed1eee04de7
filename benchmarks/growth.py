"""Seconds and memory of every stage while the data grows in steps of ten.

    python -m benchmarks.growth FOLDER     # takes hours; resumes after a stop

Each stage is one process, as under DVC. Seconds include its start. Memory is the private memory of
the process and its children, sampled twenty times a second, at its maximum; pages of mapped files
do not count. Annotations grow to a million rows, images to 100,000: drawn people of 64 px, on which
a network of four blocks trains for one epoch.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from tqdm import tqdm

from benchmarks.comparison import Comparison
from benchmarks.ingest import write_annotations
from benchmarks.watching import watch
from person_attributes.config import Params, read_params
from person_attributes.workspace import Workspace

_ROOT = Path(__file__).parent.parent
_PLOT = _ROOT / "docs" / "images" / "growth.png"
_IMAGE_SIZE = 64
_PRESENT = 100
"""Number of images that exist while annotations grow; all others are missing."""

_PHASE = {
    "starts_from": "initial",
    "image_size": _IMAGE_SIZE,
    "batch_size": 32,
    "trainable": "all",
    "augmentation": "standard",
    "loss": "plain",
    "optimizer": "adam",
    "schedule": "constant",
    "learning_rate": 1e-3,
    "epochs": 1,
}
_CHANGES = {
    "data.source": "source",
    "data.keep_columns": ["filename"],
    "data.image_sizes": [_IMAGE_SIZE],
    "data.max_quarantined_share": 1.0,
    "model.blocks": [1, 1, 1, 1],
    "phases": {"p1": _PHASE},
    "evaluation.phases": ["p1"],
    "split.near_duplicates.hash_distance": 10,
    "sweep.search": {
        "phases.p1.learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "scale": "log"}
    },
}
_FAR = 18
"""Hash distance in bits, as in the sample; 100,000 images would take hours."""

_FAR_SEARCH = f"near-duplicates within {_FAR} bits"

_QUADRATIC = frozenset({"split", _FAR_SEARCH})
"""Stages that compare all pairs of images."""

_MIN_SECONDS = 1.0
"""Seconds beyond the first step below which a time is noise."""

_GOAL = 0.7
"""Minimum ratio of ten times the time of the previous step to the time; 1 without noise."""


@dataclass(frozen=True)
class _Ladder:
    """The steps of growth, the commands to measure, and their largest steps."""

    unit: str
    counts: tuple[int, ...]
    commands: dict[str, tuple[str, ...]]
    prepare: Callable[[Path, Path, int], None]
    most: dict[str, int]


def measure() -> Iterator[Comparison]:
    """Compares the last step of every stage with ten times the step before."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        measured = run(Path(folder))
    print(format_tables(measured))
    _PLOT.write_bytes(draw(measured))
    for (unit, stage), steps in measured.groupby(["unit", "stage"], sort=False):
        before, last = steps.iloc[-2], steps.iloc[-1]
        name = f"{stage}, {last['count']:,} {unit}"
        seconds, megabytes = last["seconds"], last["megabytes"]
        goal = None if stage in _QUADRATIC else _GOAL
        allowed = 10 * before["seconds"]
        yield Comparison(
            f"{name}, against 10 x a tenth", seconds, allowed, "s", allowed / seconds, goal
        )
        rival = before["megabytes"]
        yield Comparison(
            f"{name}, against a tenth", megabytes, rival, "MB", rival / megabytes, None
        )


def run(folder: Path) -> pd.DataFrame:
    """Measures every step that is missing in `results.csv` of the folder.

    Args:
        folder: Stores the drawn people and the results, a few gigabytes.

    Returns:
        One row per stage and step: `unit`, `stage`, `count`, `seconds` and `megabytes`.
    """
    results = folder / "results.csv"
    _draw_people(folder / "people", max(_IMAGES.counts))
    for ladder in (_ROWS, _IMAGES):
        for count in ladder.counts:
            done = results.exists() and pd.read_csv(results)[["unit", "count"]].to_numpy().tolist()
            if not done or [ladder.unit, count] not in done:
                step = _measure_step(ladder, count, folder)
                step.to_csv(results, mode="a", header=not done, index=False)
    return pd.read_csv(results)


def _draw_people(folder: Path, count: int) -> None:
    from person_attributes.data.sample import draw_sample

    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
            draw_sample(Path(unfinished), count, _IMAGE_SIZE, seed=1)
            Path(unfinished).rename(folder)
            Path(unfinished).mkdir()


def _measure_step(ladder: _Ladder, count: int, folder: Path) -> pd.DataFrame:
    """Runs all stages of a step, one after the other, in a new workspace."""
    rows = []
    with tempfile.TemporaryDirectory(dir=folder) as name:
        workspace = Workspace(Path(name))
        content = read_params(_ROOT / "recipes" / "sample.yaml").change(_CHANGES)
        with workspace.params.open("w", encoding="utf-8") as file:
            YAML().dump(content.model_dump(mode="json"), file)
        (workspace.root / "source").mkdir()
        ladder.prepare(folder / "people", workspace.root / "source", count)
        commands = {
            stage: command
            for stage, command in ladder.commands.items()
            if count <= ladder.most.get(stage, count)
        }
        with tqdm(commands.items(), f"{count:,} {ladder.unit}", disable=None) as bar:
            for stage, command in bar:
                bar.set_postfix_str(stage)
                took = watch(command, workspace.root)
                rows.append([ladder.unit, stage, count, took.seconds, took.wall, took.megabytes])
    columns = ["unit", "stage", "count", "seconds", "wall", "megabytes"]
    return pd.DataFrame(rows, columns=columns).round(2)


def _prepare_rows(people: Path, source: Path, count: int) -> None:
    """Writes annotations; only the first rows have an image."""
    (source / "resized").mkdir()
    for number in range(_PRESENT):
        (source / f"resized/{number}.jpg").hardlink_to(people / f"resized/{number + 1}.jpg")
    write_annotations(source / "hvc_annotations.csv", count)


def _prepare_images(people: Path, source: Path, count: int) -> None:
    """Makes a source of the first drawn people, by hard links."""
    (source / "resized").mkdir()
    for number in range(1, count + 1):
        (source / f"resized/{number}.jpg").hardlink_to(people / f"resized/{number}.jpg")
    table = pd.read_csv(people / "hvc_annotations.csv", nrows=count, keep_default_na=False)
    table.to_csv(source / "hvc_annotations.csv", index=False)


def _read(workspace: Workspace, params: Params) -> None:
    """Reads and checks annotations: the part of `ingest` without images."""
    from person_attributes.data.annotations import read_annotations
    from person_attributes.data.records import write_records
    from person_attributes.data.source import open_source

    source = open_source(workspace.root / params.data.source, params.data.limits)
    annotations = read_annotations(source, params.data, params.heads)
    write_records(annotations.table.drop(columns="line"), workspace.records)


def _draw_split(workspace: Workspace, params: Params) -> None:
    """Draws a split: the part of `split` without images."""
    from person_attributes.data.records import read_records
    from person_attributes.data.split import check_labels, draw_split
    from person_attributes.labels import LabelMap

    records, label_map = read_records(workspace.records), LabelMap.declare(params.heads)
    annotated, targets = records.index.tolist(), label_map.encode(records)
    drawn = draw_split(records, annotated, targets, params.split)
    check_labels(drawn, records, label_map.heads)
    drawn.write(workspace.split)


def _resolve(workspace: Workspace, params: Params) -> None:
    """Resolves leaks: moves random near-duplicates, one pair per 100 rows, into training."""
    from person_attributes.data.leakage import describe_pairs, name_pairs, resolve_leaks
    from person_attributes.data.records import read_records
    from person_attributes.data.split import Split, find_groups

    records, drawn = read_records(workspace.records), Split.read(workspace.split)
    chosen = np.random.default_rng(1).permutation(len(records))[: len(records) // 100 * 2]
    pairs = pd.DataFrame(np.sort(chosen.reshape(-1, 2)), columns=["first", "second"])
    named = name_pairs(pairs.assign(similarity=1.0), records)
    groups = find_groups(records, params.split.group_by)
    resolved = resolve_leaks(drawn, named, groups, params.split.near_duplicates)
    described = describe_pairs(named, records, drawn, resolved)
    described.to_csv(workspace.near_duplicates, index=False)


def _search(workspace: Workspace, params: Params) -> None:
    """Searches near-duplicates with the hash distance of the sample."""
    from person_attributes.data.near_duplicates import find_near_duplicates

    hashes = pd.read_csv(workspace.appearances, dtype={"hash": str})["hash"]
    thumbnails = np.load(workspace.thumbnails, mmap_mode="r")
    similarity = params.split.near_duplicates.similarity
    find_near_duplicates(thumbnails, list(hashes), _FAR, similarity)


_PARTS: dict[str, Callable[[Workspace, Params], None]] = {
    "read": _read,
    "split": _draw_split,
    "resolve": _resolve,
    "search": _search,
}
"""Parts of stages without images, and the search for near-duplicates."""


def _run_part(name: str, method: str) -> None:
    workspace = Workspace(Path.cwd())
    params = read_params(workspace.params).change({"split.method": method})
    _PARTS[name](workspace, params)


def _stage(*words: str) -> tuple[str, ...]:
    return ("person_attributes", *words)


def _part(name: str, method: str = "random") -> tuple[str, ...]:
    return ("benchmarks.growth", "part", name, method)


_ROWS = _Ladder(
    "rows",
    (1_000, 10_000, 100_000, 1_000_000),
    {
        "ingest, images missing": _stage("ingest"),
        "read and check": _part("read"),
        "encode": _stage("encode"),
        "split, stratified": _part("split", "stratified"),
        "split, grouped": _part("split", "grouped"),
        "split, random": _part("split", "random"),
        "resolve leaks": _part("resolve"),
    },
    _prepare_rows,
    most={},
)
_IMAGES = _Ladder(
    "images",
    (100, 1_000, 10_000, 100_000),
    {
        "ingest": _stage("ingest"),
        "encode": _stage("encode"),
        _FAR_SEARCH: _part("search"),
        "split": _stage("split"),
        "pack": _stage("pack", str(_IMAGE_SIZE)),
        "inspect": _stage("inspect"),
        "initialize": _stage("initialize"),
        "train, an epoch": _stage("train", "p1"),
        "select": _stage("select"),
        "evaluate": _stage("evaluate"),
    },
    _prepare_images,
    most={_FAR_SEARCH: 10_000},
)


def format_tables(measured: pd.DataFrame) -> str:
    """Formats Markdown tables of seconds and of megabytes for each unit, with slopes."""
    lines = []
    for _, table in measured.groupby("unit", sort=False):
        counts = sorted(table["count"].unique())
        heads = " | ".join(f"{count:,}" for count in counts)
        for what, digits in (("seconds", 0), ("megabytes", 0)):
            lines += [f"| {what} | {heads} | slope |", "| --- |" + " ---: |" * (len(counts) + 1)]
            for stage, steps in table.groupby("stage", sort=False):
                values = steps.set_index("count")[what]
                cells = [f"{values[n]:,.{digits}f}" if n in values else "" for n in counts]
                slope = find_slope(values, is_time=what == "seconds")
                lines += [f"| {stage} | {' | '.join(cells)} | {slope:.2f} |".replace("nan", "")]
            lines += [""]
    return "\n".join(lines)


def find_slope(values: pd.Series, *, is_time: bool) -> float:
    """Returns the exponent of growth over the last step: 1 is linear, 0 constant.

    The time of the first step, mostly the start of Python, MLflow and TensorFlow, is subtracted.

    Returns:
        The exponent; NaN if less than a second is left of the step before the last.
    """
    start = values.iloc[0] if is_time else 0.0
    before, last = values.iloc[-2] - start, values.iloc[-1] - start
    return float(np.log10(last / before)) if before >= _MIN_SECONDS else np.nan


def draw(measured: pd.DataFrame) -> bytes:
    """Plots seconds and memory over rows and over images on logarithmic axes."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    from person_attributes.drawing.figures import GREY, new_figure, to_png

    figure = new_figure(14, 8)
    panels = figure.subplots(2, 2)
    for column, (unit, table) in enumerate(measured.groupby("unit", sort=False)):
        for axis, what in zip(panels[:, column], ("seconds", "megabytes"), strict=True):
            for stage, steps in table.groupby("stage", sort=False):
                axis.plot(steps["count"], steps[what], marker="o", markersize=4, label=stage)
            counts = np.array(sorted(table["count"].unique()), float)
            end = table.loc[table["count"] == counts[-1], what].max()
            line = end * counts / counts[-1]
            axis.plot(counts, line, color=GREY, linestyle=":", label="slope 1")
            axis.set(xscale="log", yscale="log", xlabel=unit, ylabel=what)
            axis.set_ylim(bottom=table[what].min() / 1.5)
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
                side.set_minor_formatter(NullFormatter())
            axis.spines[["top", "right"]].set_visible(False)
        panels[0, column].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return to_png(figure)


if __name__ == "__main__":
    if sys.argv[1] == "part":
        _run_part(*sys.argv[2:])
    else:
        kept = Path(sys.argv[1]).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        found = run(kept)
        print(format_tables(found))
        _PLOT.write_bytes(draw(found))
