"""The stages of the data: from a source to checked records, parts and packs."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from person_attributes.config import Params
from person_attributes.data.annotations import read_records, write_records
from person_attributes.data.archive import open_source
from person_attributes.data.ingest import (
    Ingested,
    check_quarantine,
    describe_quarantine,
    make_room_on_disk,
)
from person_attributes.data.ingest import ingest as ingest_source
from person_attributes.data.leakage import describe_pairs, name_pairs, settle_leaks
from person_attributes.data.near_duplicates import find_near_duplicates
from person_attributes.data.packs import open_pack, pack_images
from person_attributes.data.sample import draw_sample
from person_attributes.data.split import Split, check_labels, draw_split, find_groups
from person_attributes.errors import AnnotationsError
from person_attributes.labels import LabelMap
from person_attributes.pipeline.networks import (
    make_label_map,
    name_shares,
    open_stage_run,
    writing,
)
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    from person_attributes.tracking.runs import Run

_GRID_IMAGES = 18


def sample(workspace: Workspace, params: Params) -> None:
    """Draws the embedded sample."""
    with open_stage_run(
        "sample", workspace, params, {"sample"}, reads=[], writes=[workspace.sample]
    ) as run:
        with writing(workspace.sample) as folder:
            folder.mkdir()
            draw_sample(folder, params.sample.images, params.sample.image_size, params.sample.seed)
        run.log_metrics({"images": params.sample.images})
        run.log_file(workspace.sample / "hvc_annotations.csv")
        print(f"sample: drew {params.sample.images} people")


def ingest(workspace: Workspace, params: Params) -> None:
    """Checks annotations and images; writes records, quarantine, and how the images look."""
    from person_attributes.data.augment import check_policies
    from person_attributes.drawing.figures import draw_class_shares

    # Hours may pass until a phase builds its policy.
    check_policies(params.augmentation, params.data.image_sizes)
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
        ingested = ingest_source(source, params.data, params.heads, make_room_on_disk)
        _refuse_bad_source(workspace, params, ingested, run)
        with writing(workspace.quarantine) as path:
            ingested.quarantine.to_csv(path, index=False, lineterminator="\n")
        with writing(workspace.records) as path:
            write_records(ingested.records, path)
        with writing(workspace.appearances) as path:
            ingested.appearances.to_csv(path, lineterminator="\n")
        with writing(workspace.thumbnails) as path, path.open("wb") as file:
            np.save(file, ingested.thumbnails)
        shares = make_label_map(params).class_shares(ingested.records)
        missing = (ingested.records[list(params.heads)] == "").sum()
        run.log_metrics({"records": len(ingested.records), "quarantined": len(ingested.quarantine)})
        run.log_metrics({f"{head}_missing": int(count) for head, count in missing.items()})
        run.log_metrics(name_shares(shares))
        run.log_dataset(
            ingested.records.reset_index(), "records", params.data.source, context="ingest"
        )
        run.log_file(workspace.quarantine)
        run.log_bytes(draw_class_shares(shares, params.report.colour), "class_shares.png")
        print(
            f"ingest: {len(ingested.records)} records, {len(ingested.quarantine)} rows quarantined"
        )
        for line in describe_quarantine(ingested.quarantine):
            print(f"  {line}; see {workspace.relative(workspace.quarantine)}")
        for head, count in missing[missing > 0].items():
            print(f"  {count} records have no label of {head}: they train the other heads")


def _refuse_bad_source(
    workspace: Workspace, params: Params, ingested: Ingested, run: "Run"
) -> None:
    """Ends the stage where too much is bad; the list of it lies beside the earlier outputs."""
    try:
        check_quarantine(ingested, params.data, workspace.relative(workspace.rejected))
        workspace.rejected.unlink(missing_ok=True)
    except AnnotationsError:
        with writing(workspace.rejected) as path:
            ingested.quarantine.to_csv(path, index=False, lineterminator="\n")
        run.log_file(workspace.rejected)
        raise


def encode(workspace: Workspace, params: Params) -> None:
    """Makes the one-hot columns and the label map."""
    writes = [workspace.one_hot, workspace.label_map]
    with open_stage_run("encode", workspace, params, {"heads"}, [workspace.records], writes) as run:
        records, label_map = read_records(workspace.records), make_label_map(params)
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


def split(workspace: Workspace, params: Params) -> None:
    """Draws the rows of each part, and keeps near-duplicates out of different ones."""
    from person_attributes.drawing.figures import draw_class_shares

    reads = [
        workspace.records,
        workspace.quarantine,
        workspace.appearances,
        workspace.thumbnails,
    ]
    writes = [workspace.split, workspace.near_duplicates]
    with open_stage_run("split", workspace, params, {"split"}, reads, writes) as run:
        records, label_map = read_records(workspace.records), make_label_map(params)
        quarantined = pd.read_csv(workspace.quarantine, usecols=["row"])["row"]
        annotated = sorted([*records.index, *quarantined])
        drawn = draw_split(records, annotated, label_map.encode(records), params.split)
        leaks, settled = _settle_leaks(workspace, params, records, drawn)
        check_labels(settled, records, label_map.heads)
        with writing(workspace.near_duplicates) as path:
            leaks.to_csv(path, index=False, lineterminator="\n")
        with writing(workspace.split) as path:
            settled.write(path)
        for part, rows in settled.parts.items():
            part_records = records.loc[list(rows)]
            shares = label_map.class_shares(part_records)
            run.log_metrics({f"{part}_rows": len(rows)})
            run.log_metrics(name_shares(shares, f"{part}_"))
            run.log_dataset(part_records.reset_index(), part, params.data.source, context=part)
            picture = draw_class_shares(shares, params.report.colour)
            run.log_bytes(picture, f"class_shares_{part}.png")
        apart, moved = int(leaks["drawn_apart"].sum()), len(settled.train) - len(drawn.train)
        run.log_metrics({"near_duplicates": len(leaks), "drawn_apart": apart, "moved": moved})
        run.set_tags({"split.digest": settled.digest})
        run.log_file(workspace.split)
        run.log_file(workspace.near_duplicates)
        counts = ", ".join(f"{len(rows)} {part}" for part, rows in settled.parts.items())
        print(f"split: {counts} rows, digest {settled.digest}")
        if len(leaks):
            print(
                f"  {len(leaks)} pairs of near-duplicates, {apart} drawn apart, {moved} rows "
                f"moved into training; see {workspace.relative(workspace.near_duplicates)}"
            )


def _settle_leaks(
    workspace: Workspace, params: Params, records: pd.DataFrame, drawn: Split
) -> tuple[pd.DataFrame, Split]:
    """Finds near-duplicates, and gives the split with what the parameters say done about them."""
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
    settled = settle_leaks(drawn, named, groups, section)
    return describe_pairs(named, records, drawn, settled), settled


def pack(workspace: Workspace, params: Params, image_size: int | str) -> None:
    """Decodes every image once into an array of one size."""
    from person_attributes.drawing.figures import draw_sample_grid

    path = workspace.pack(image_size)
    source_path = workspace.root / params.data.source
    reads = [source_path, workspace.records]
    with open_stage_run(f"pack@{image_size}", workspace, params, {"data"}, reads, [path]) as run:
        records = read_records(workspace.records)
        with writing(path) as temporary:
            source = open_source(source_path, params.data.limits)
            names = list(records["image"])
            pack_images(
                source,
                names,
                image_size,
                params.data.black_bars,
                params.data.limits,
                temporary,
            )
        images = open_pack(path)
        captions = [
            "\n".join(str(label) for label in labels)
            for labels in records[list(params.heads)].head(_GRID_IMAGES).to_numpy()
        ]
        grid = draw_sample_grid(images[:_GRID_IMAGES], captions, columns=6)
        run.log_bytes(grid, "labelled_images.png")
        run.log_metrics({"images": len(images), "megabytes": images.nbytes / 1e6})
        print(f"pack: {len(images)} images at {image_size} px, {images.nbytes / 1e6:.0f} MB")


def inspect(workspace: Workspace, params: Params) -> None:
    """Shows the data on one page."""
    from person_attributes.reporting.data_page import Data, render_data_page

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
        records, drawn = read_records(workspace.records), Split.read(workspace.split)
        label_map = LabelMap.read(workspace.label_map)
        data = Data(
            records,
            pd.read_csv(workspace.quarantine, keep_default_na=False),
            pd.read_csv(workspace.appearances, index_col="row"),
            pd.read_csv(workspace.near_duplicates),
            drawn,
            open_pack(workspace.pack(image_size)),
            label_map,
        )
        shares = {
            part: label_map.class_shares(records.loc[list(rows)])
            for part, rows in drawn.parts.items()
        }
        page = render_data_page(data, shares, params.inspection, params.report.colour, params.seed)
        with writing(workspace.data_page) as path:
            path.write_text(page, encoding="utf-8")
        run.log_file(workspace.data_page)
        run.log_metrics({"records": len(records), "near_duplicates": len(data.near_duplicates)})
        print(f"inspect: the data on one page, see {workspace.relative(workspace.data_page)}")
