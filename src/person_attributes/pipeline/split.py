"""The stage `split`: draws the rows of each part, without near-duplicates across parts."""

import numpy as np
import pandas as pd

from person_attributes.config import Params
from person_attributes.data.leakage import describe_pairs, name_pairs, resolve_leaks
from person_attributes.data.near_duplicates import find_near_duplicates
from person_attributes.data.records import read_records
from person_attributes.data.split import Split, check_labels, draw_split, find_groups
from person_attributes.files import writing
from person_attributes.labels import LabelMap
from person_attributes.reporting.run_plots import draw_class_shares
from person_attributes.tracking.runs import Run
from person_attributes.tracking.stages import name_shares, open_stage_run
from person_attributes.workspace import Workspace


def split(workspace: Workspace, params: Params) -> None:
    """Draws the rows of each part, and resolves near-duplicates across parts."""
    reads = [
        workspace.records,
        workspace.quarantine,
        workspace.appearances,
        workspace.thumbnails,
    ]
    writes = [workspace.split, workspace.near_duplicates]
    with open_stage_run("split", workspace, params, {"split"}, reads, writes) as run:
        records, label_map = read_records(workspace.records), LabelMap.declare(params.heads)
        quarantined = pd.read_csv(workspace.quarantine, usecols=["row"])["row"]
        annotated = sorted([*records.index, *quarantined])
        drawn = draw_split(records, annotated, label_map.encode(records), params.split)
        leaks, resolved = _resolve_leaks(workspace, params, records, drawn)
        check_labels(resolved, records, label_map.heads)
        with writing(workspace.near_duplicates) as path:
            leaks.to_csv(path, index=False, lineterminator="\n")
        with writing(workspace.split) as path:
            resolved.write(path)
        _log_parts(params, records, resolved, run)
        apart, moved = int(leaks["drawn_apart"].sum()), len(resolved.train) - len(drawn.train)
        run.log_metrics({"near_duplicates": len(leaks), "drawn_apart": apart, "moved": moved})
        run.set_tags({"split.digest": resolved.digest})
        run.log_file(workspace.split)
        run.log_file(workspace.near_duplicates)
        counts = ", ".join(f"{len(rows)} {part}" for part, rows in resolved.parts.items())
        print(f"split: {counts} rows, digest {resolved.digest}")
        if params.split.method == "grouped":
            groups = find_groups(records, params.split.group_by).nunique()
            print(f"  {len(records)} rows are in {groups} groups")
        if len(leaks):
            print(
                f"  {len(leaks)} pairs of near-duplicates, {apart} across parts, {moved} rows "
                f"moved into training; see {workspace.relative(workspace.near_duplicates)}"
            )


def _resolve_leaks(
    workspace: Workspace, params: Params, records: pd.DataFrame, drawn: Split
) -> tuple[pd.DataFrame, Split]:
    """Finds near-duplicates; handles pairs in different parts as `split.near_duplicates` requires.

    Returns:
        The pairs, and the resolved split.
    """
    section = params.split.near_duplicates
    hashes = pd.read_csv(workspace.appearances, dtype={"hash": str})["hash"]
    pairs = find_near_duplicates(
        np.load(workspace.thumbnails, mmap_mode="r"),
        list(hashes),
        section.hash_distance,
        section.similarity,
    )
    named = name_pairs(pairs, records)
    if params.split.method == "grouped":
        groups = find_groups(records, params.split.group_by)
    else:
        groups = pd.Series(records.index.astype(str), index=records.index)
    resolved = resolve_leaks(drawn, named, groups, section)
    return describe_pairs(named, records, drawn, resolved), resolved


def _log_parts(params: Params, records: pd.DataFrame, resolved: Split, run: Run) -> None:
    """Logs the rows of each part, and the class shares of its labels."""
    label_map = LabelMap.declare(params.heads)
    for part, rows in resolved.parts.items():
        part_records = records.loc[list(rows)]
        shares = label_map.class_shares(part_records)
        run.log_metrics({f"{part}_rows": len(rows)})
        run.log_metrics(name_shares(shares, f"{part}_"))
        run.log_dataset(part_records.reset_index(), part, params.data.source, context=part)
        picture = draw_class_shares(shares, params.report.colour)
        run.log_bytes(picture, f"class_shares_{part}.png")
