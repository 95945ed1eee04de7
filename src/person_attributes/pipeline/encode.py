"""The stage `encode`: writes the one-hot columns and the label map."""

import numpy as np
import pandas as pd

from person_attributes.config import Params
from person_attributes.data.records import read_records
from person_attributes.files import writing
from person_attributes.labels import LabelMap
from person_attributes.tracking.stages import name_shares, open_stage_run
from person_attributes.workspace import Workspace


def encode(workspace: Workspace, params: Params) -> None:
    """Writes the one-hot columns and the label map."""
    writes = [workspace.one_hot, workspace.label_map]
    with open_stage_run("encode", workspace, params, {"heads"}, [workspace.records], writes) as run:
        records, label_map = read_records(workspace.records), LabelMap.declare(params.heads)
        matrix = np.concatenate(list(label_map.encode(records).values()), axis=1).astype(np.uint8)
        one_hot = pd.DataFrame(matrix, columns=label_map.one_hot_columns, index=records.index)
        with writing(workspace.one_hot) as path:
            one_hot.to_csv(path, lineterminator="\n")
        with writing(workspace.label_map) as path:
            label_map.write(path)
        run.log_metrics({"records": len(records), "one_hot_columns": one_hot.shape[1]})
        run.log_metrics(name_shares(label_map.class_shares(records)))
        run.log_dataset(one_hot.reset_index(), "one_hot", params.data.source, context="encode")
        run.log_file(workspace.label_map)
        print(f"encode: {one_hot.shape[1]} one-hot columns for {len(label_map.heads)} heads")
