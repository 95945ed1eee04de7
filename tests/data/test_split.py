import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from person_attributes.data.split import Split, find_positions, split_records
from person_attributes.errors import SplitError


def _records(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"image": [str(row) for row in range(rows)]})


def test_the_full_data_set_splits_into_the_articles_rows() -> None:
    split = split_records(_records(13_573), validation_share=0.15, seed=42)
    assert (len(split.train), len(split.validation)) == (11_537, 2_036)
    _, validation = train_test_split(range(13_573), test_size=0.15, random_state=42)
    assert list(split.validation) == validation


def test_every_row_is_in_one_part() -> None:
    split = split_records(_records(100), 0.15, seed=1)
    assert sorted(split.train + split.validation) == list(range(100))
    assert split.digest == split_records(_records(100), 0.15, seed=1).digest
    assert split.digest != split_records(_records(100), 0.15, seed=2).digest


def test_an_edited_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    split_records(_records(20), 0.2, seed=1).write(path)
    assert Split.read(path).validation
    content = json.loads(path.read_text())
    content["train"].append(content["validation"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(SplitError, match="its rows do not fit its digest"):
        Split.read(path)


def test_a_truncated_split_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    split_records(_records(20), 0.2, seed=1).write(path)
    path.write_text(path.read_text()[:40])
    with pytest.raises(SplitError, match=r"split\.json: not a split"):
        Split.read(path)


def test_a_row_in_both_parts_is_refused() -> None:
    with pytest.raises(SplitError, match="row 2 is in both parts"):
        Split(train=(1, 2), validation=(2, 3))


def test_positions_follow_the_rows_that_were_kept() -> None:
    records = _records(10).drop(index=[0, 4])
    np.testing.assert_array_equal(find_positions(records, (5, 1, 9)), [3, 0, 7])
    with pytest.raises(SplitError, match="row 4 is not among the 8 records"):
        find_positions(records, (1, 4))


def test_too_few_records_are_one_line() -> None:
    with pytest.raises(SplitError, match="1 records cannot be divided"):
        split_records(_records(1), 0.15, seed=1)
