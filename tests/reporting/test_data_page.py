import base64
import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from person_attributes.config import Params
from person_attributes.data.split import Split
from person_attributes.labels import LabelMap
from person_attributes.reporting.data_page import Data, render_data_page


@pytest.fixture
def data(label_map: LabelMap, random: np.random.Generator) -> Data:
    rows = pd.Index(range(3, 43), name="row")
    records = pd.DataFrame({"image": [f"<b>{row}.jpg" for row in rows]}, index=rows)
    for head, names in label_map.classes.items():
        records[head] = random.choice(names, len(rows))
    records.loc[[3, 4], "age"] = ""
    records["weight"] = label_map.classes["weight"][0]
    appearances = pd.DataFrame(
        {
            "brightness": random.random(40),
            "grey_range": random.uniform(0.5, 1, 40),
            "sharpness": random.random(40) * 900,
        },
        index=rows,
    )
    pairs = pd.DataFrame(
        {
            "first": [3, 10],
            "second": [40, 11],
            "first_image": ["3.jpg", "10.jpg"],
            "second_image": ["40.jpg", "11.jpg"],
            "first_part": ["train", "train"],
            "second_part": ["validation", "train"],
            "drawn_apart": [True, True],
            "similarity": [0.93, 0.8],
        }
    )
    quarantine = pd.DataFrame(
        {
            "row": [0, 1, 2],
            "line": [2, 3, 4],
            "image": ["a.jpg", "<script>", "c.jpg"],
            "kind": ["bad image", "unknown class", "unknown class"],
            "reason": ["truncated", "unknown age '<i>'", "unknown age '18'"],
        }
    )
    split = Split(train=tuple(range(3, 35)), validation=tuple(range(35, 43)))
    images = random.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    return Data(records, quarantine, appearances, pairs, split, images, label_map)


def _render(data: Data, params: Params) -> str:
    shares = {
        part: data.label_map.class_shares(data.records.loc[list(rows)])
        for part, rows in data.split.parts.items()
    }
    return render_data_page(data, shares, params.inspection, "#2a6f97", seed=1)


def test_the_page_describes_the_dataset_without_external_resources(
    data: Data, params: Params
) -> None:
    page = _render(data, params)
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    for expected in (
        "40 records (32 train, 8 validation)",
        "3 rows quarantined",
        "near-duplicate pairs: 2 (drawn into different parts: 2, still in different parts: 1)",
        "Missing labels: age 2 records",
        "unknown class: 2",
        "rows 3 (train) and 40 (validation) in different parts",
        "rows 10 (train) and 11 (train) moved to the same part",
        "over-weight no records",
    ):
        assert expected in text


def test_images_keep_the_shape_of_the_pack(data: Data, params: Params) -> None:
    page = _render(replace(data, images=np.zeros((40, 64, 32, 3), np.uint8)), params)
    pictures = re.findall(r'data:image/jpeg;base64,([^"]+)', page)
    widths = {Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures}
    count = params.inspection.images
    assert (count * 35 - 3, 64) in widths
    assert all(height == 64 for width, height in widths if width > 2)


def test_images_that_use_few_grey_levels_are_reported(data: Data, params: Params) -> None:
    assert "grey levels" not in _render(data, params)
    data.appearances.loc[[7, 12], "grey_range"] = [0.06, 0.02]
    page = _render(data, params)
    assert "2 of 40 images use less than 1/8 of the grey levels</b> rows 12, 7" in page
    assert "A 16-bit PNG with values of 10 or 12 bits is nearly black" in page


def test_user_input_is_escaped(data: Data, params: Params) -> None:
    page = _render(data, params)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;i&gt;" in page


def test_rendering_is_deterministic(data: Data, params: Params) -> None:
    assert _render(data, params) == _render(data, params)


def test_dollar_signs_are_not_formulas_and_many_classes_fit(data: Data, params: Params) -> None:
    prices = tuple(f"$5^${number}{{" for number in range(70))
    records = data.records.assign(age=[prices[row % 70] for row in data.records.index])
    label_map = LabelMap(
        classes=dict(data.label_map.classes) | {"age": prices}, columns=data.label_map.columns
    )
    page = _render(replace(data, records=records, label_map=label_map), params)
    assert "$5^$3{" in page


def test_the_page_reports_the_absence_of_duplicates_and_faults(data: Data, params: Params) -> None:
    clean = replace(
        data, quarantine=data.quarantine.head(0), near_duplicates=data.near_duplicates.head(0)
    )
    page = _render(clean, params)
    assert "None found." in page
    assert "None: every row has a valid image and known labels." in page
