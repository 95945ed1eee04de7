"""The parameters in `docs/datasets.md` bring in images in the layouts of public data sets."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, read_yaml
from PIL import Image
from ruamel.yaml import YAML

from person_attributes.commands.init import init
from person_attributes.config import check_params, read_params
from person_attributes.data.records import read_records
from person_attributes.pipeline.encode import encode
from person_attributes.pipeline.ingest import ingest
from person_attributes.pipeline.split import split
from person_attributes.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's data sets warn

PAGE = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
ROWS = 60
RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Layout:
    """A data set that is drawn in its published layout.

    Attributes:
        draw: Draws it in a folder.
        heads: Its columns for which `init` proposes a head.
        location: Column and path of an image that `init` proposes.
        labels: `{head: labels of the first rows}` with the parameters of the page.
        quarantined: Number of rows that cannot be read.
        table: The table that `init` reads; empty if there is only one.
    """

    draw: Callable[[Path], None]
    heads: set[str]
    location: tuple[str, str]
    labels: dict[str, list[str]]
    quarantined: int = 0
    table: str = ""


def _draw_images(folder: Path, names: Iterable[str], height: int = 48, width: int = 48) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "JPEG")


def _write(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _choose(values: Sequence[str], number: int) -> str:
    return values[number % len(values)]


def draw_fairface(folder: Path) -> None:
    ages = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]
    races = ["East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino_Hispanic"]
    races.append("Southeast Asian")
    for part, rows in (("train", ROWS), ("val", 9)):
        names = [f"{part}/{number}.jpg" for number in range(1, rows + 1)]
        _draw_images(folder, names)
        table = [
            (
                name,
                _choose(ages, row),
                _choose(["Male", "Female"], row),
                _choose(races, row),
                row > 3,
            )
            for row, name in enumerate(names)
        ]
        header = ("file", "age", "gender", "race", "service_test")
        _write(folder / f"fairface_label_{part}.csv", [header, *table])


def draw_utkface(folder: Path) -> None:
    names = [
        f"{row % 100}_{row % 2}_{row % 5}_201612191406{row:05}.jpg.chip.jpg"
        for row in range(1, ROWS)
    ]
    _draw_images(folder, [*names, "39_1_20170116174525125.jpg.chip.jpg"])
    script = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert script is not None
    subprocess.run([sys.executable, "-c", script[1], str(folder)], check=True)


def draw_celeba(folder: Path) -> None:
    attributes = ["5_o_Clock_Shadow", "Bald", "Bangs", "Eyeglasses", "Male", "No_Beard", "Smiling"]
    attributes += ["Wearing_Hat", "Young"]
    names = [f"{number:06}.jpg" for number in range(1, ROWS + 1)]
    _draw_images(folder / "Img/img_align_celeba", names, height=54, width=44)
    rows = [
        f"{name} " + " ".join(f"{1 if row % (place + 2) else -1:2}" for place in range(9))
        for row, name in enumerate(names)
    ]
    table = folder / "Anno/list_attr_celeba.txt"
    table.parent.mkdir()
    table.write_text("\n".join([str(ROWS), " ".join(attributes) + " ", *rows, ""]))
    (folder / "Anno/identity_CelebA.txt").write_text("000001.jpg 2880\n")


def draw_ham10000(folder: Path) -> None:
    names = [f"ISIC_{24306 + row:07}" for row in range(ROWS)]
    for row, name in enumerate(names):
        part = folder / f"HAM10000_images_part_{1 + row % 2}"
        _draw_images(part, [f"{name}.jpg"], height=45, width=60)
    sites = ["abdomen", "acral", "back", "chest", "unknown", "lower extremity"]
    diagnoses = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    sexes, ages, types = ["male", "female", "unknown"], ["80.0", "", "35.0"], ["histo", "consensus"]
    columns = (diagnoses, types, ages, sexes, sites)
    rows = [
        (f"HAM_{row // 2:07}", name, *(_choose(values, row) for values in columns))
        for row, name in enumerate(names)
    ]
    header = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    _write(folder / "HAM10000_metadata.csv", [header, *rows])
    _write(folder / "hmnist_28_28_L.csv", [("pixel0000", "label"), (1, 2)])


def draw_fashion(folder: Path) -> None:
    ids = [15970 + 7 * row for row in range(ROWS)]
    _draw_images(folder / "images", [f"{number}.jpg" for number in ids], height=80, width=60)
    header = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage"
    audiences, seasons = ["Men", "Women", "Unisex"], ["Fall", "Summer", "NA"]
    categories = ["Apparel", "Accessories", "Footwear", "Personal Care"]
    usages = ["Casual", "Sports", "NA", "Smart Casual"]
    rows = [
        f"{number},{_choose(audiences, row)},{_choose(categories, row)},Topwear,Shirts,Navy Blue,"
        f"{_choose(seasons, row)},{2007 + row % 12}.0,{_choose(usages, row)},Product {row}"
        for row, number in enumerate(ids)
    ]
    rows[5] += ", 2 in 1"  # a comma without quotation marks
    lines = [f"{header},productDisplayName", *rows, ""]
    (folder / "styles.csv").write_text("\n".join(lines), encoding="utf-8")
    _write(folder / "images.csv", [("filename", "link"), ("15970.jpg", "http://example.org")])


LAYOUTS = {
    "FairFace": Layout(
        draw_fairface,
        {"age", "gender", "race", "service_test"},
        ("file", ""),
        {"age": ["0-2", "3-9"], "gender": ["Male", "Female"], "race": ["East Asian", "Indian"]},
        table="fairface_label_train.csv",
    ),
    "UTKFace": Layout(
        draw_utkface,
        {"gender", "race"},
        ("file", ""),
        {"age": ["10-19", "10-19"], "gender": ["male", "female"], "race": ["White", "Black"]},
    ),
    "CelebA": Layout(
        draw_celeba,
        {"5_o_Clock_Shadow", "Bald", "Bangs", "Eyeglasses", "Male", "No_Beard", "Smiling"}
        | {"Wearing_Hat", "Young"},
        ("", "Img/img_align_celeba/{}"),
        {
            "shadow": ["absent", "present"],
            "gender": ["female", "male"],
            "beard": ["present", "absent"],
        },
        table="Anno/list_attr_celeba.txt",
    ),
    "HAM10000": Layout(
        draw_ham10000,
        {"dx", "dx_type", "sex", "localization", "age"},
        ("image_id", ""),
        {"diagnosis": ["akiec", "bcc"], "age": ["60-85", ""], "sex": ["male", "female", ""]},
        table="HAM10000_metadata.csv",
    ),
    "Fashion products": Layout(
        draw_fashion,
        {"gender", "masterCategory", "season", "usage"},
        ("id", "images/{id}.jpg"),
        {"audience": ["Men", "Women"], "season": ["Fall", "Summer", ""], "usage": ["Casual"]},
        quarantined=1,
        table="styles.csv",
    ),
}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, workspace: Workspace) -> tuple[str, Layout]:
    name = str(request.param)
    block = _read_block(name)
    folder = workspace.root / block["data"]["source"]
    folder.mkdir(parents=True)
    LAYOUTS[name].draw(folder)
    shutil.copytree(ROOT / "recipes", workspace.root / "recipes")
    return name, LAYOUTS[name]


def _read_block(name: str) -> Any:
    """Reads the parameters in the section of a data set."""
    section = PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return YAML(typ="safe").load(block[1])


def _merge(content: dict[str, Any], block: dict[str, Any]) -> dict[str, Any]:
    """Sets the values of a block; `heads` and lists are replaced."""
    for key, value in block.items():
        is_section = isinstance(value, dict) and key != "heads"
        content[key] = _merge(content[key], value) if is_section else value
    return content


def test_the_page_describes_the_drawn_data_sets() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == list(LAYOUTS)


def test_the_parameters_of_the_page_bring_in_the_data_set(
    layout: tuple[str, Layout], workspace: Workspace
) -> None:
    name, expected = layout
    content = _merge(read_yaml(ROOT / "recipes/sample.yaml"), _read_block(name))
    content["data"]["max_quarantined_share"] = 0.05  # of few rows
    params = check_params(content, "params.yaml")
    with chdir(workspace.root):
        for stage in (ingest, encode, split):
            stage(workspace, params)
    records = read_records(workspace.records)
    assert len(records) == ROWS - expected.quarantined
    for head, labels in expected.labels.items():
        assert records[head].to_list()[: len(labels)] == labels
    parts = json.loads(workspace.split.read_text())
    assert sum(len(parts[part]) for part in ("train", "validation", "test")) == len(records)
    if params.split.method == "grouped":
        groups = records[params.split.group_by.column]
        assert not set(groups[parts["train"]]) & set(groups[parts["test"]])


def test_init_proposes_parameters_that_bring_in_the_data_set(
    layout: tuple[str, Layout], workspace: Workspace
) -> None:
    name, expected = layout
    source = _read_block(name)["data"]["source"]
    command = f"person-attributes init {source}"
    assert command + (f" --annotations {expected.table}" if expected.table else "") in PAGE
    with chdir(workspace.root):
        init(workspace, source, expected.table, "recipes/sample.yaml", Path("params.yaml"))
        params = read_params(workspace.params)
        ingest(workspace, params.change({"data.max_quarantined_share": 0.05}))  # of few rows
    assert {head.column for head in params.heads.values()} == expected.heads
    assert (params.data.image_column, params.data.image_path) == expected.location
    assert len(read_records(workspace.records)) == ROWS - expected.quarantined
