"""The stage `pack`: decodes and resizes all images into one array."""

from person_attributes.config import Params
from person_attributes.data.packing import pack_images
from person_attributes.data.packs import open_pack
from person_attributes.data.records import read_records
from person_attributes.data.source import open_source
from person_attributes.files import writing
from person_attributes.reporting.run_plots import draw_sample_grid
from person_attributes.tracking.stages import open_stage_run
from person_attributes.workspace import Workspace

_GRID_IMAGES = 18


def pack(workspace: Workspace, params: Params, image_size: int | str) -> None:
    """Decodes all images and resizes them to one size, into one array."""
    path = workspace.pack(image_size)
    source_path = workspace.root / params.data.source
    reads = [source_path, workspace.records]
    with open_stage_run(f"pack@{image_size}", workspace, params, {"data"}, reads, [path]) as run:
        records = read_records(workspace.records)
        with writing(path) as temporary:
            pack_images(
                open_source(source_path, params.data.limits),
                list(records["image"]),
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
