"""The stage `sample`: draws the images and labels of the sample data."""

from person_attributes.config import Params
from person_attributes.data.sample import draw_sample
from person_attributes.files import writing
from person_attributes.tracking.stages import open_stage_run
from person_attributes.workspace import Workspace


def sample(workspace: Workspace, params: Params) -> None:
    """Draws the images and labels of the sample data."""
    with open_stage_run(
        "sample", workspace, params, {"sample"}, reads=[], writes=[workspace.sample]
    ) as run:
        with writing(workspace.sample) as folder:
            folder.mkdir()
            draw_sample(folder, params.sample.images, params.sample.image_size, params.sample.seed)
        run.log_metrics({"images": params.sample.images})
        run.log_file(workspace.sample / "hvc_annotations.csv")
        print(f"sample: drew {params.sample.images} people")
