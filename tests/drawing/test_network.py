import matplotlib
import pytest

from person_attributes.config import Params
from person_attributes.drawing.network import draw_network
from person_attributes.labels import LabelMap
from person_attributes.modeling.classifier import Normalization, build_classifier


@pytest.mark.parametrize("neck", ["avg", "avg_max"])
def test_the_figure_does_not_depend_on_matplotlib_settings(
    params: Params, label_map: LabelMap, neck: str
) -> None:
    """The figure is an output of a stage, so `dvc.lock` would differ between machines."""
    model = params.change({"model.blocks": [1, 1, 1, 1], "model.neck": neck}).model
    normalization = Normalization([0.0] * 3, [255.0] * 3)
    classifier = build_classifier(32, label_map.class_counts, model, normalization)
    picture = draw_network(classifier)
    with matplotlib.rc_context({"font.family": "monospace", "lines.linewidth": 7}):
        assert draw_network(classifier) == picture
