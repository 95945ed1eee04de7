"""The stage `inspect`: writes the data page."""

import pandas as pd

from person_attributes.config import Params
from person_attributes.data.dataset import Dataset
from person_attributes.files import writing
from person_attributes.reporting.data_page import Data, render_data_page
from person_attributes.tracking.stages import open_stage_run
from person_attributes.workspace import Workspace


def inspect(workspace: Workspace, params: Params) -> None:
    """Writes the data page."""
    image_size = params.data.image_sizes[0]
    reads = [
        workspace.records,
        workspace.quarantine,
        workspace.appearances,
        workspace.near_duplicates,
        workspace.split,
        workspace.label_map,
        workspace.pack(image_size),
    ]
    sections = {"seed", "inspection", "report"}
    with open_stage_run(
        "inspect", workspace, params, sections, reads, [workspace.data_page]
    ) as run:
        dataset = Dataset(workspace, image_size)
        data = Data(
            dataset.records,
            pd.read_csv(workspace.quarantine, keep_default_na=False, dtype={"image": str}),
            pd.read_csv(workspace.appearances, index_col="row"),
            pd.read_csv(workspace.near_duplicates),
            dataset.split,
            dataset.images,
            dataset.label_map,
        )
        shares = {
            part: data.label_map.class_shares(data.records.loc[list(rows)])
            for part, rows in data.split.parts.items()
        }
        page = render_data_page(data, shares, params.inspection, params.report.colour, params.seed)
        with writing(workspace.data_page) as path:
            path.write_text(page, encoding="utf-8")
        run.log_file(workspace.data_page)
        pairs = len(data.near_duplicates)
        run.log_metrics({"records": len(data.records), "near_duplicates": pairs})
        print(f"inspect: wrote {workspace.relative(workspace.data_page)}")
