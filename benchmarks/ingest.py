"""A million annotation rows from CSV to split, without images; and decoding on all cores."""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.comparison import Comparison, alternate, ask_process
from person_attributes.config import read_params

_RECIPE = read_params(Path(__file__).parent.parent / "recipes" / "hvc.yaml")
_ROWS, _IMAGES = 1_000_000, 6000
_SECONDS, _MEGABYTES = 60.0, 2000.0


def measure() -> Iterator[Comparison]:
    """Compares a million rows with a minute, 2 GB and pandas alone; and all cores with one."""
    rival = ask_process("benchmarks.ingest", "rival", "seconds")
    for method in ("random", "stratified"):
        name = f"{_ROWS:,} rows: ingest, encode, {method} split"
        seconds = ask_process("benchmarks.ingest", method, "seconds")
        yield Comparison(f"{name}, against a minute", seconds, _SECONDS, "s", _SECONDS / seconds, 1)
        yield Comparison(
            f"{name}, against pandas alone", seconds, rival, "s", rival / seconds, None
        )
        peak = ask_process("benchmarks.ingest", method, "megabytes")
        yield Comparison(f"{name}, peak memory", peak, _MEGABYTES, "MB", _MEGABYTES / peak, 1)
    yield _measure_decoding()


def _measure_decoding() -> Comparison:
    from benchmarks.people import draw_people
    from person_attributes.data.appearance import describe_image
    from person_attributes.data.decoding import map_images
    from person_attributes.data.images import decode_image
    from person_attributes.data.source import open_source

    people, limits = draw_people(_IMAGES), _RECIPE.data.limits
    source, names = open_source(people.folder, limits), list(people.table["image_path"])

    def ours() -> None:
        list(map_images(describe_image, source, names, limits, "ours"))

    def rival() -> None:
        for name in names:
            content = source.read(name)
            describe_image(content, decode_image(content, limits.image_megapixels))

    seconds, alone = alternate(ours, rival, rounds=2)
    name = f"checking {_IMAGES:,} images of 224 px, all cores against one"
    return Comparison(name, _IMAGES / seconds, _IMAGES / alone, "images/s", alone / seconds, 1.3)


def write_annotations(path: Path, rows: int) -> None:
    """Writes annotations in the article's format: random labels, five rows per frame."""
    random = np.random.default_rng(0)
    names = [f"images/Set1/{row // 5}_{row % 5}.jpg" for row in range(rows)]
    table = pd.DataFrame({"filename": names})
    for section in _RECIPE.heads.values():
        table[section.column] = random.choice(section.classes, rows)
    table["image_path"] = [f"resized/{row}.jpg" for row in range(rows)]
    table.to_csv(path, index=False)


def _run(method: str, folder: Path) -> None:
    """Reads, checks, encodes and splits annotations; writes the files of the stages."""
    from person_attributes.data.annotations import read_annotations
    from person_attributes.data.records import read_records, write_records
    from person_attributes.data.source import open_source
    from person_attributes.data.split import draw_split
    from person_attributes.labels import LabelMap

    source = open_source(folder, _RECIPE.data.limits)
    annotations = read_annotations(source, _RECIPE.data, _RECIPE.heads)
    assert annotations.faults.empty
    write_records(annotations.table.drop(columns="line"), folder / "records.csv")
    del annotations
    records = read_records(folder / "records.csv")
    label_map = LabelMap.declare(_RECIPE.heads)
    targets = label_map.encode(records)
    matrix = np.concatenate(list(targets.values()), axis=1).astype(np.uint8)
    one_hot = pd.DataFrame(matrix, columns=label_map.one_hot_columns, index=records.index)
    one_hot.to_csv(folder / "one_hot.csv", lineterminator="\n")
    split = _RECIPE.split.model_copy(update={"method": method})
    drawn = draw_split(records, records.index.tolist(), targets, split)
    drawn.write(folder / "split.json")


def _run_rival(folder: Path) -> None:
    """Runs the method of the article: `get_dummies` without checks, and a random split."""
    from sklearn.model_selection import train_test_split

    table = pd.read_csv(folder / "hvc_annotations.csv", keep_default_na=False)
    labels = table.columns.drop(["filename", "image_path"])
    one_hot = pd.concat([table["image_path"], pd.get_dummies(table[labels])], axis=1)
    for name, part in zip(
        ("train", "val"), train_test_split(one_hot, test_size=0.15, random_state=42), strict=True
    ):
        part.to_csv(folder / f"{name}.csv", index=False)


def _main(method: str, unit: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_annotations(folder / "hvc_annotations.csv", _ROWS)
        # Reset the peak, so that writing the file does not count.
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        began = time.perf_counter()
        if method == "rival":
            _run_rival(folder)
        else:
            _run(method, folder)
        seconds = time.perf_counter() - began
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        print(seconds if unit == "seconds" else int(peak.split()[1]) / 1e3)


if __name__ == "__main__":
    _main(*sys.argv[1:])
