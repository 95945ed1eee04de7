from pathlib import Path

import numpy as np
import pandas as pd

from person_attributes.data.records import read_records
from person_attributes.labels import LabelMap


def test_the_default_heads_have_27_columns_with_the_attribute_as_prefix(
    label_map: LabelMap,
) -> None:
    columns = label_map.one_hot_columns
    assert len(columns) == 27
    assert (columns[0], columns[-1]) == ("gender_female", "emotion_Sad")
    assert {"carryingbag_None", "bodypose_Side", "carryingbag_Daily/Office/Work Bag"} <= set(
        columns
    )


def test_columns_equal_those_of_get_dummies(label_map: LabelMap, people: Path) -> None:
    table = pd.read_csv(people / "hvc_annotations.csv", dtype=str, keep_default_na=False)
    attributes = list(label_map.columns.values())
    dummies = pd.get_dummies(table[attributes])
    labels = table[attributes].set_axis(list(label_map.heads), axis=1)
    ours = pd.DataFrame(
        np.concatenate(list(label_map.encode(labels).values()), axis=1),
        columns=label_map.one_hot_columns,
    )
    assert set(dummies.columns) <= set(ours.columns)
    np.testing.assert_array_equal(ours[dummies.columns], dummies)
    assert (ours.drop(columns=dummies.columns) == 0).all(axis=None)


def test_decoding_inverts_encoding(label_map: LabelMap) -> None:
    labels = pd.DataFrame(
        {head: [names[0], "", names[-1]] for head, names in label_map.classes.items()}
    )
    pd.testing.assert_frame_equal(label_map.decode(label_map.encode(labels)), labels)


def test_a_label_map_survives_writing_and_reading(label_map: LabelMap, tmp_path: Path) -> None:
    label_map.write(tmp_path / "labels.json")
    assert LabelMap.read(tmp_path / "labels.json") == label_map
    assert "Angry/Serious" in (tmp_path / "labels.json").read_text()


def test_the_class_none_survives_the_records_file(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text("row,image,bag\n0,a.jpg,None\n3,b.jpg,NA\n")
    assert read_records(tmp_path / "records.csv")["bag"].tolist() == ["None", "NA"]
