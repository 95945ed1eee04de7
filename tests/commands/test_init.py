"""The command `init` proposes parameters for new data."""

import csv
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SHIPPED, Project
from dvc.utils.serialize import modify_yaml
from PIL import Image

from person_attributes.commands.init.columns import describe_column, name_heads
from person_attributes.commands.init.sizes import fit_image_size
from person_attributes.config import Params, read_params
from person_attributes.data.annotations import read_annotations
from person_attributes.data.source import open_source

ROWS = 12


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    shutil.copytree(ROOT / "recipes", project.root / "recipes")
    return project


def _draw(folder: Path, names: Iterable[str], height: int = 60, width: int = 40) -> None:
    random = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _draw_shop(folder: Path) -> None:
    """Draws images that the table names by their path."""
    names = [f"images/{row}.png" for row in range(ROWS)]
    _draw(folder, names)
    colours = ["red", "green", "unknown"]
    rows = [(name, colours[row % 3], row % 2) for row, name in enumerate(names)]
    _write(folder / "labels.csv", ("file", "colour", "Has Sleeves"), rows)


def _init(project: Project, *arguments: str) -> Params:
    project.cli("init", *arguments)
    return read_params(project.params_file)


def test_the_proposal_has_heads_image_paths_and_sizes(project: Project) -> None:
    _draw_shop(project.root / "shop")
    done = project.cli("init", "shop")
    params = read_params(project.params_file)
    assert (params.data.source, params.data.annotations) == ("shop", "labels.csv")
    assert (params.data.image_column, params.data.image_path) == ("file", "")
    assert list(params.heads) == ["colour", "has_sleeves"]
    assert params.heads["colour"].classes == ("green", "red")
    assert params.heads["colour"].missing == ("unknown",)
    assert params.heads["has_sleeves"].column == "Has Sleeves"
    assert params.heads["has_sleeves"].classes == ("0", "1")
    assert params.data.image_sizes == ("64x40",)  # as large as the images
    assert {phase.image_size for phase in params.phases.values()} == {"64x40"}
    assert params.registry.model_name == "shop"
    assert "colour       colour       red 4, green 4, unknown 4 (missing label)" in done.stdout
    assert "person-attributes check && dvc repro" in done.stdout


@pytest.mark.parametrize("recipe", ["sample", "hvc", "hvc_best", "sample_hyperparameters"])
def test_the_proposal_keeps_the_comments_and_the_training_of_a_recipe(
    project: Project, recipe: str
) -> None:
    _draw_shop(project.root / "shop")
    params = _init(project, "shop", "--recipe", f"recipes/{recipe}.yaml")
    template = read_params(ROOT / f"recipes/{recipe}.yaml")
    assert (params.model, params.losses) == (template.model, template.losses)
    assert list(params.phases) == list(template.phases)
    written = project.params_file.read_text(encoding="utf-8")
    assert f"recipes/{recipe}.yaml" in written.splitlines()[0]
    assert "\n\nsplit:\n  method: stratified        # by classes of heads; or random" in written
    with modify_yaml(str(project.params_file)):
        pass  # as `dvc exp run -S` writes it
    assert project.params_file.read_text(encoding="utf-8") == written


def test_a_zip_and_data_elsewhere_are_read(project: Project, tmp_path: Path) -> None:
    _draw_shop(tmp_path / "shop")
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        for path in (tmp_path / "shop").rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    for data in ("../shop", "../shop.zip"):
        params = _init(project, data, "--output", "new.yaml", "--output", "params.yaml")
        assert params.data.source == str((tmp_path / data.removeprefix("../")).resolve())
        project.params_file.unlink()


@pytest.mark.parametrize(
    ("files", "cells", "location"),
    [
        ("img/{0}.png", {"id": "{0}"}, ("id", "img/{id}.png")),
        ("img/{0:06}.png", {"id": "{0}"}, ("id", "img/{id:06}.png")),
        ("img/photo_{0}_front.png", {"id": "{0}"}, ("id", "img/photo_{id}_front.png")),
        (
            "faces/p{1}@N/crop.{1}.photo{0}.png",
            {"person": "p{1}@N", "photo": "photo{0}.png", "face": "{1}"},
            ("photo", "faces/{person}/crop.{face}.{photo}"),
        ),
        ("part_{1}/Image{0}.PNG", {"id": "image{0}"}, ("id", "")),
        ("img/{0}.png", {"": "img\\{0}.png"}, ("", "")),
    ],
)
def test_image_paths_are_found_by_trying(
    project: Project, files: str, cells: dict[str, str], location: tuple[str, str]
) -> None:
    numbers = [(row + 7, row % 3) for row in range(ROWS)]
    _draw(project.root / "shop", [files.format(*pair) for pair in numbers])
    rows = [
        (*(cell.format(*pair) for cell in cells.values()), ["on", "off"][pair[0] % 2])
        for pair in numbers
    ]
    _write(project.root / "shop/labels.csv", (*cells, "state"), rows)
    params = _init(project, "shop")
    assert (params.data.image_column, params.data.image_path) == location


def test_numbers_that_happen_to_be_file_names_do_not_name_the_images(project: Project) -> None:
    _draw(project.root / "shop", [f"img/{number}.png" for number in range(ROWS)])
    rows = [(number % 7, number, ["on", "off"][number % 2]) for number in range(ROWS)]
    _write(project.root / "shop/labels.csv", ("age", "id", "state"), rows)
    assert _init(project, "shop").data.image_path == "img/{id}.png"


def test_other_images_that_the_rows_name_are_listed(project: Project) -> None:
    for folder in ("train", "val"):
        _draw(project.root / "shop", [f"{folder}/{number}.png" for number in range(ROWS)])
    rows = [(number, ["on", "off"][number % 2]) for number in range(ROWS)]
    _write(project.root / "shop/val.csv", ("id", "state"), rows)
    done = project.cli("init", "shop")
    chosen = read_params(project.params_file).data.image_path
    others = {"train/{id}.png", "val/{id}.png"} - {chosen}
    assert f"name as many other images: {others.pop()}. Check" in done.stdout


def test_the_name_of_a_table_may_differ_in_form(project: Project) -> None:
    _draw_shop(project.root / "shop")
    (project.root / "shop/labels.csv").rename(project.root / "shop/Labels.csv")
    assert _init(project, "shop", "--annotations", "labels.csv").data.annotations == "Labels.csv"
    project.params_file.unlink()
    done = project.cli("init", "shop", "--annotations", "label.csv", code=2)
    assert "contains no file 'label.csv'. Did you mean 'Labels.csv'? Correct" in done.stderr


def test_few_of_many_tables_are_listed(project: Project) -> None:
    _draw_shop(project.root / "shop")
    (project.root / "shop/labels.csv").unlink()
    for number in range(30):
        (project.root / f"shop/{number:02}.txt").write_text("0 0.5 0.5 1 1\n")
    done = project.cli("init", "shop", code=2)
    assert "contains 30 tables." in done.stderr
    assert done.stderr.endswith(", 08.txt, 09.txt and 20 others\n")


def test_tables_in_hidden_folders_are_ignored(project: Project) -> None:
    _draw_shop(project.root / "shop")
    copies = project.root / "shop/.ipynb_checkpoints"
    copies.mkdir()
    shutil.copy(project.root / "shop/labels.csv", copies / "labels-checkpoint.csv")
    assert _init(project, "shop").data.annotations == "labels.csv"


def test_metadata_of_macos_are_no_images(project: Project) -> None:
    _draw(project.root / "shop", [f"img/{number}.png" for number in range(ROWS)])
    for number in range(ROWS):
        (project.root / f"shop/img/._{number}.png").touch()
    rows = [(number, ["on", "off"][number % 2]) for number in range(ROWS)]
    _write(project.root / "shop/labels.csv", ("id", "state"), rows)
    done = project.cli("init", "shop")
    assert "Path of an image: img/{id}.png" in done.stdout
    assert "as many other images" not in done.stdout


def test_columns_of_the_same_name_are_reported(project: Project) -> None:
    _draw(project.root / "shop", [f"{row}.png" for row in range(ROWS)])
    rows = [(f"{row}.png", row % 2, row % 2, row % 3) for row in range(ROWS)]
    _write(project.root / "shop/labels.csv", ("file", "hat", "hat", "bag"), rows)
    done = project.cli("init", "shop")
    assert "  hat     -     appears twice; rename one" in done.stdout
    assert list(read_params(project.params_file).heads) == ["bag"]


def test_a_table_of_r_is_proposed_as_it_is_read(project: Project) -> None:
    _draw(project.root / "shop", [f"{row}.png" for row in range(ROWS)])
    rows = [(row, f"{row}.png", ["on", "off"][row % 2]) for row in range(ROWS)]
    _write(project.root / "shop/labels.csv", ("file", "state"), rows)
    params = _init(project, "shop")
    source = open_source(project.root / "shop", params.data.limits)
    assert read_annotations(source, params.data, params.heads).faults.empty


def test_malformed_rows_are_ignored(project: Project) -> None:
    _draw_shop(project.root / "shop")
    with (project.root / "shop/labels.csv").open("a") as file:
        file.write("images/1.png,dark,red,1\n")
    assert _init(project, "shop").heads["colour"].classes == ("green", "red")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["b", "a"], {"classes": ["a", "b"]}),
        (["10-19", "2-9", "20+"], {"classes": ["2-9", "10-19", "20+"]}),
        (["10", "9", "01"], {"classes": ["01", "9", "10"]}),
        (["-1", "1"], {"classes": ["-1", "1"]}),
        (["-1", "1", "2"], {"classes": ["1", "2"], "missing": ["-1"]}),
        (
            ["a", "b", "#N/A", "<NA>", "."],
            {"classes": ["a", "b"], "missing": ["#N/A", ".", "<NA>"]},
        ),
        (["m", "f", "u", "NA", ""], {"classes": ["f", "m"], "missing": ["NA", "u"]}),
        (["t", "u", "v"], {"classes": ["t", "u", "v"]}),
        (["r\u00f6d", "ro\u0308d", "blue"], {"classes": ["blue", "r\u00f6d"]}),
        (["None", "Bag"], {"classes": ["Bag", "None"]}),
        (["red, dark", "blue"], {"classes": ["blue", "red, dark"]}),
        (
            [f"{age}_{age + 4}" for age in range(0, 60, 5)],
            {"classes": [f"{age}_{age + 4}" for age in range(0, 60, 5)]},
        ),
    ],
)
def test_columns_with_few_values_become_heads(cells: list[str], expected: dict[str, Any]) -> None:
    column = describe_column("name", cells * 5)
    assert column.head == {"column": "name"} | expected


@pytest.mark.parametrize(
    ("cells", "pair"),
    [
        (["Red", "blue", "red"], "'Red' and 'red'"),
        (["East Asian", "East\u00a0Asian"], r"'East Asian' and 'East\xa0Asian'"),
        (["0", "1", "1.0"], "'1' and '1.0'"),
    ],
)
def test_labels_that_differ_in_form_only_are_named(cells: list[str], pair: str) -> None:
    column = describe_column("name", cells * 5)
    assert f"; {pair} may be one class: see aliases" in column.description
    assert sorted(column.head["classes"]) == sorted(cells)


@pytest.mark.parametrize(
    ("name", "cells", "reason"),
    [
        ("", ["a", "b"] * 5, "the column has no name"),
        ("a", ["x"] * 5, "the same value in all rows"),
        ("a", [""] * 5, "empty"),
        ("a", ["x|y", "x", "y"] * 5, "several labels in a cell; a head has one"),
        ("a", ["['x', 'y']", "['x']"] * 5, "several labels in a cell; a head has one"),
        ("fold", ["1", "2"] * 5, "part of a split"),
        (
            "a",
            [str(row) for row in range(99)] * 9,
            "99 numbers; `bins` of a head make classes of them",
        ),
        ("a", [f"a{row}" for row in range(99)], "99 values in 99 rows"),
        (
            "a",
            [f"a{row}" for row in range(99)] * 2,
            "99 values in 198 rows; split.method grouped keeps equal ones together",
        ),
    ],
)
def test_other_columns_are_described(name: str, cells: list[str], reason: str) -> None:
    column = describe_column(name, cells)
    assert (column.head, column.description) == ({}, reason)


def test_heads_have_valid_and_unique_names() -> None:
    names = ["sleeveLength", "sleeve length", "5 o'Clock", "image", "Größe", "色", "test_x", "色2"]
    names += ["Sleeve Length Probability", "x" * 300]
    heads = name_heads([describe_column(name, ["a", "b"] * 5) for name in names])
    expected = ["sleeve_length", "sleeve_length_2", "head_5_o_clock", "head_image", "groe", "head"]
    expected += ["head_test_x", "head_2", "head_sleeve_length_probability", "x" * 80]
    assert list(heads) == expected


def test_a_head_does_not_have_the_name_of_a_metric_of_another() -> None:
    columns = [describe_column(name, ["a", "b"] * 5) for name in ("age_balanced", "age")]
    assert list(name_heads(columns)) == ["head_age_balanced", "age"]


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (64, (500, 500), 64),
        (64, (450, 540), 64),
        (80, (600, 300), "112x56"),
        ("160x80", (300, 600), "80x160"),
        (64, (40, 40), 40),
        (64, (10, 10), 32),
    ],
)
def test_sizes_have_the_shape_of_the_images(
    size: int | str, shape: tuple[int, int], expected: int | str
) -> None:
    assert fit_image_size(size, *shape, smallest_side=32) == expected


def test_only_a_copy_of_a_recipe_is_overwritten(project: Project) -> None:
    _draw_shop(project.root / "shop")
    shutil.copy(SHIPPED, project.params_file)
    _init(project, "shop")
    written = project.params_file.read_bytes()
    done = project.cli("init", "shop", code=2)
    assert done.stderr.count("\n") == 1
    assert "params.yaml: exists, and is no copy of a file in recipes/" in done.stderr
    assert project.params_file.read_bytes() == written
    project.cli("init", "shop", "--output", "other.yaml")
    project.cli("init", "shop", "--output", "recipes/sample.yaml", code=2)
    assert (project.root / "other.yaml").read_bytes() == written
    done = project.cli("init", "shop", "--output", "shop", code=2)
    assert done.stderr.endswith("shop: Is a directory. Name another path.\n")


def _keep_images_only(folder: Path) -> None:
    (folder / "labels.csv").unlink()


def _add_table(folder: Path) -> None:
    shutil.copy(folder / "labels.csv", folder / "more.csv")


def _remove_images(folder: Path) -> None:
    shutil.rmtree(folder / "images")


def _break_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"text")


def _link_images(folder: Path) -> None:
    (folder / "images").rename(folder.parent / "photos")
    (folder / "images").symlink_to(folder.parent / "photos")


def _link_table(folder: Path) -> None:
    (folder / "labels.csv").rename(folder.parent / "labels.csv")
    (folder / "labels.csv").symlink_to(folder.parent / "labels.csv")


def _remove_labels(folder: Path) -> None:
    _write(folder / "labels.csv", ("file",), [(f"images/{row}.png",) for row in range(ROWS)])


def _repeat_a_label(folder: Path) -> None:
    rows = [(f"images/{row}.png", "red") for row in range(ROWS)]
    _write(folder / "labels.csv", ("file", "colour"), rows)


def _rename_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.rename(path.with_name(f"x{path.stem}y.png"))


def _convert_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.rename(path.with_suffix(".tif"))


def _keep_images_and_xml(folder: Path) -> None:
    (folder / "labels.csv").rename(folder / "labels.xml")
    (folder / "notes").touch()
    (folder / "images/0.gif").touch()


def _name_several_labels(folder: Path) -> None:
    rows = [(f"images/{row}.png", "red|blue") for row in range(ROWS)]
    _write(folder / "labels.csv", ("file", "colour"), [*rows, ("", "red"), ("", "blue")])


def _remove_rows(folder: Path) -> None:
    _write(folder / "labels.csv", ("file", "colour"), [])


def _shift_rows(folder: Path) -> None:
    _write(folder / "labels.csv", ("file", "colour"), [("images/1.png", "", "", "red")] * ROWS)


def _remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_keep_images_only, "shop: contains no table"),
        (_add_table, "Name it with --annotations: labels.csv, more.csv"),
        (_remove_images, "shop: contains no images of labels.csv"),
        (_break_images, "can be decoded"),
        (_link_images, "shop: images/0.png is a link that leads out of the source"),
        (_link_table, "shop: labels.csv is a link that leads out of the source"),
        (_remove_labels, "labels.csv: expected a column for the images and one for labels"),
        (_repeat_a_label, "labels.csv: no column can be a head"),
        (_rename_images, "It contains 12 images, such as 'images/x0y.png'. Correct the paths"),
        (_convert_images, "images in other formats, such as 'images/0.tif'. Convert them"),
        (_keep_images_and_xml, "Received: labels.xml, notes. Create it"),
        (_name_several_labels, "colour (several labels in a cell; a head has one)"),
        (_remove_rows, "labels.csv: no rows below the header"),
        (_shift_rows, "labels.csv: 4 values; the header has 2"),
        (_remove_all, "shop: expected a folder, a .zip or a table"),
    ],
)
def test_data_without_table_images_or_labels_is_refused_in_one_line(
    project: Project, change: Any, message: str
) -> None:
    _draw_shop(project.root / "shop")
    change(project.root / "shop")
    done = project.cli("init", "shop", code=2)
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not project.params_file.exists()
