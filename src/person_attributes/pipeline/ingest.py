"""The stage `ingest`: checks annotations and images."""

import numpy as np

from person_attributes.config import Params
from person_attributes.data.image_names import describe_renamed
from person_attributes.data.ingest import (
    Ingested,
    allocate_on_disk,
    check_quarantine,
    describe_absent_classes,
    describe_quarantine,
)
from person_attributes.data.ingest import ingest as ingest_source
from person_attributes.data.records import write_records
from person_attributes.data.source import open_source
from person_attributes.errors import AnnotationsError
from person_attributes.files import writing
from person_attributes.labels import LabelMap
from person_attributes.reporting.run_plots import draw_class_shares
from person_attributes.tracking.runs import Run
from person_attributes.tracking.stages import name_shares, open_stage_run
from person_attributes.workspace import Workspace


def ingest(workspace: Workspace, params: Params) -> None:
    """Checks annotations and images; writes records, quarantine, appearances and thumbnails."""
    source_path = workspace.root / params.data.source
    writes = [
        workspace.records,
        workspace.quarantine,
        workspace.appearances,
        workspace.thumbnails,
    ]
    with open_stage_run(
        "ingest", workspace, params, {"data", "heads"}, [source_path], writes
    ) as run:
        source = open_source(source_path, params.data.limits)
        ingested = ingest_source(source, params.data, params.heads, allocate_on_disk)
        _refuse_bad_source(workspace, params, ingested, run)
        with writing(workspace.quarantine) as path:
            ingested.quarantine.to_csv(path, index=False, lineterminator="\n")
        with writing(workspace.records) as path:
            write_records(ingested.records, path)
        with writing(workspace.appearances) as path:
            ingested.appearances.to_csv(path, lineterminator="\n")
        with writing(workspace.thumbnails) as path, path.open("wb") as file:
            np.save(file, ingested.thumbnails)
        _report(workspace, params, ingested, run)


def _refuse_bad_source(workspace: Workspace, params: Params, ingested: Ingested, run: Run) -> None:
    """Raises if too many rows are bad, and lists them in a file beside the earlier outputs."""
    try:
        check_quarantine(ingested, params.data, workspace.relative(workspace.rejected))
        workspace.rejected.unlink(missing_ok=True)
    except AnnotationsError:
        with writing(workspace.rejected) as path:
            ingested.quarantine.to_csv(path, index=False, lineterminator="\n")
        run.log_file(workspace.rejected)
        raise


def _report(workspace: Workspace, params: Params, ingested: Ingested, run: Run) -> None:
    """Logs and prints the counts of records, bad rows and missing labels."""
    records, quarantine = ingested.records, ingested.quarantine
    shares = LabelMap.declare(params.heads).class_shares(records)
    missing = (records[list(params.heads)] == "").sum()
    run.log_metrics({"records": len(records), "quarantined": len(quarantine)})
    run.log_metrics({f"{head}_missing": int(count) for head, count in missing.items()})
    run.log_metrics(name_shares(shares))
    run.log_dataset(records.reset_index(), "records", params.data.source, context="ingest")
    run.log_file(workspace.quarantine)
    run.log_bytes(draw_class_shares(shares, params.report.colour), "class_shares.png")
    print(f"ingest: {len(records)} records, {len(quarantine)} rows quarantined")
    for line in describe_quarantine(quarantine):
        print(f"  {line}; see {workspace.relative(workspace.quarantine)}")
    for line in describe_renamed(ingested.renamed):
        print(f"  {line}; records contain the name of the file")
    for line in describe_absent_classes(shares):
        print(f"  {line}")
    for head, count in missing[missing > 0].items():
        print(f"  {count} records have no {head} label: they train only the other heads")
