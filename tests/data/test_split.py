import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from person_attributes.config import GroupParams, Params, SplitParams
from person_attributes.data.split import (
    Split,
    check_labels,
    draw_split,
    find_groups,
    find_positions,
)
from person_attributes.errors import SplitError


def _records(rows: int) -> pd.DataFrame:
    numbers = range(rows)
    return pd.DataFrame(
        {
            "image": [f"{number}.jpg" for number in numbers],
            "filename": [f"images/Set1/{number // 4 * 30}_{number % 4}.jpg" for number in numbers],
        },
        index=pd.RangeIndex(rows, name="row"),
    )


def _targets(rows: int) -> dict[str, npt.NDArray[np.float32]]:
    """Returns targets of two heads; the second head has a class with a share of 2 %."""
    random = np.random.default_rng(3)
    one = random.integers(0, 2, rows)
    rare = random.choice(3, rows, p=[0.6, 0.38, 0.02])
    return {"gender": np.eye(2, dtype=np.float32)[one], "age": np.eye(3, dtype=np.float32)[rare]}


@pytest.fixture
def draw(params: Params) -> Any:
    def draw(
        records: pd.DataFrame,
        method: str = "random",
        annotated: list[int] | None = None,
        targets: Mapping[str, npt.NDArray[np.float32]] | None = None,
        **changes: object,
    ) -> Split:
        section: SplitParams = params.split.model_copy(update={"method": method, **changes})
        rows = annotated or records.index.tolist()
        return draw_split(records, rows, targets or _targets(len(records)), section)

    return draw


def test_the_full_data_set_gives_the_articles_split(draw: Any) -> None:
    split = draw(_records(13_573))
    assert (len(split.train), len(split.validation)) == (11_537, 2_036)
    train, validation = train_test_split(range(13_573), test_size=0.15, random_state=42)
    assert [list(split.train), list(split.validation)] == [train, validation]


def test_a_quarantined_row_does_not_move_other_rows(draw: Any) -> None:
    whole = draw(_records(200))
    fewer = draw(_records(200).drop(index=[3, 77, 78]), annotated=list(range(200)))
    for part, rows in whole.parts.items():
        assert fewer.parts[part] == tuple(row for row in rows if row not in {3, 77, 78})


@pytest.mark.parametrize("method", ["random", "stratified", "grouped"])
def test_every_row_is_in_one_part_and_the_split_is_reproducible(draw: Any, method: str) -> None:
    split = draw(_records(400), method, test_share=0.1)
    assert sorted(split.train + split.validation + split.test) == list(range(400))
    assert len(split.validation) == pytest.approx(60, abs=1)
    assert len(split.test) == pytest.approx(40, abs=1)
    assert split.digest == draw(_records(400), method, test_share=0.1).digest
    assert split.digest != draw(_records(400), method, test_share=0.1, seed=1).digest


def test_stratified_parts_have_the_same_class_shares(draw: Any) -> None:
    targets = _targets(2000)
    split = draw(_records(2000), "stratified", targets=targets, test_share=0.15)
    for target in targets.values():
        for rows in (split.validation, split.test):
            difference = target[list(rows)].mean(axis=0) - target.mean(axis=0)
            assert np.abs(difference).max() < 0.005
    drawn = draw(_records(2000), "random", targets=targets, test_share=0.15)
    worst = max(
        np.abs(target[list(drawn.validation)].mean(axis=0) - target.mean(axis=0)).max()
        for target in targets.values()
    )
    assert worst > 0.005


def test_rows_with_a_missing_label_are_stratified(draw: Any) -> None:
    targets = _targets(500)
    targets["age"][:100] = 0
    split = draw(_records(500), "stratified", targets=targets)
    assert len(split.validation) == 75


def test_groups_stay_together(draw: Any, params: Params) -> None:
    records = _records(400)
    split = draw(records, "grouped", test_share=0.2)
    groups = find_groups(records, params.split.group_by)
    assert groups.nunique() == 100
    parts = [set(groups.loc[list(rows)]) for rows in split.parts.values()]
    assert not (parts[0] & parts[1])
    assert not (parts[0] & parts[2])
    assert not (parts[1] & parts[2])


def test_rows_without_a_match_are_groups_of_their_own() -> None:
    names = [
        "images/Set1/4200_3.jpg",
        "images/Set1/4200_1 (2).jpg",
        "images/Set2/4200_3.jpg",
        "IMG (1)",
        "IMG (2)",
    ]
    records = pd.DataFrame({"image": names, "place": ["a", "b", "a", "b", ""]})
    by_pattern = find_groups(records, GroupParams(column="image", pattern=r"(Set\d+)/(\d+)_"))
    assert by_pattern.groupby(by_pattern).ngroup().tolist() == [0, 0, 1, 2, 3]
    by_match = find_groups(records, GroupParams(column="image", pattern=r"Set\d+"))
    assert by_match.nunique() == 4
    by_value = find_groups(records, GroupParams(column="place", pattern=""))
    assert by_value.groupby(by_value).ngroup().tolist() == [0, 1, 0, 1, 2]
    assert find_groups(records, GroupParams(column="place", pattern="a|")).nunique() == 3


@pytest.mark.parametrize("pattern", [r"^IMAGES/(\d+)", ""])
def test_a_column_or_pattern_that_groups_no_rows_is_refused(draw: Any, pattern: str) -> None:
    group_by = GroupParams(column="image", pattern=pattern)
    with pytest.raises(SplitError, match=r"no two of 400 rows are in the same group.*'0\.jpg'"):
        draw(_records(400), "grouped", group_by=group_by)


def test_moved_rows_are_appended_to_training() -> None:
    split = Split(train=(5, 1), validation=(2, 9, 4), test=(7, 8))
    moved = split.move([9, 5, 7])
    assert moved == Split(train=(5, 1, 9, 7), validation=(2, 4), test=(8,))
    assert moved.digest != split.digest


@pytest.mark.parametrize("part", ["validation", "test"])
def test_an_edited_split_is_refused(draw: Any, tmp_path: Path, part: str) -> None:
    path = tmp_path / "split.json"
    split = draw(_records(20), test_share=0.2)
    split.write(path)
    assert Split.read(path) == split
    content = json.loads(path.read_text())
    content["train"].append(content[part].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(SplitError, match="the digest does not match the rows"):
        Split.read(path)


@pytest.mark.parametrize(
    "content",
    ["", "[1]", '{"train": 1}', '{"digest": "x"', "null"]
    + [f'{{"digest": "x", "train": [{row}], "validation": []}}' for row in ('"a"', "null", "1e99")],
)
def test_a_malformed_split_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(SplitError, match=r"split\.json: not a split"):
        Split.read(path)


def test_a_row_in_two_parts_is_refused() -> None:
    with pytest.raises(SplitError, match="row 2 is in two parts"):
        Split(train=(1, 2), validation=(2, 3))
    with pytest.raises(SplitError, match="row 3 is in two parts"):
        Split(train=(1, 2), validation=(3,), test=(4, 3))


def test_positions_are_those_of_the_records() -> None:
    records = _records(10).drop(index=[0, 4])
    np.testing.assert_array_equal(find_positions(records, (5, 1, 9)), [3, 0, 7])
    with pytest.raises(SplitError, match="row 4 is not among the 8 records"):
        find_positions(records, (1, 4))


def test_too_few_records_are_refused(draw: Any) -> None:
    with pytest.raises(SplitError, match="1 rows or groups cannot be divided"):
        draw(_records(1))
    whole = draw(_records(20))
    with pytest.raises(SplitError, match="the part 'validation' has none of the"):
        draw(_records(20).drop(index=list(whole.validation)), annotated=list(range(20)))


def test_a_part_without_labels_of_a_head_is_refused() -> None:
    records = pd.DataFrame({"age": ["a", "b", "", ""], "bag": ["x", "", "y", ""]})
    split = Split(train=(0, 1), validation=(2, 3))
    check_labels(split, records, ["bag"])
    with pytest.raises(SplitError, match="none of the 2 rows for validation has a label of age"):
        check_labels(split, records, ["bag", "age"])
