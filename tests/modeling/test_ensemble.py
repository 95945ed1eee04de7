import keras
import numpy as np

from person_attributes.config import Params
from person_attributes.modeling.classifier import Normalization, average_flips, build_classifier
from person_attributes.modeling.ensemble import average_networks


def _build(params: Params, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    small = params.model.model_copy(update={"blocks": (1, 1, 1, 1)})
    return build_classifier(32, {"a": 2, "b": 3}, small, Normalization([120.0] * 3, [60.0] * 3))


def test_an_ensemble_predicts_the_mean_of_its_members(
    params: Params, random: np.random.Generator
) -> None:
    images = random.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    members = [_build(params, seed) for seed in (1, 2, 3)]
    ensemble = average_flips(average_networks(members))
    answers = [member(view) for member in members for view in (images, images[:, :, ::-1])]
    for head, y_prob in ensemble(images).items():
        each = [np.array(answer[head]) for answer in answers]
        assert np.ptp(each, axis=0).max() > 1e-3
        np.testing.assert_allclose(y_prob, np.mean(each, axis=0), atol=1e-6)
    assert ensemble.count_params() == sum(member.count_params() for member in members)


def test_one_member_stays_as_it_is(params: Params) -> None:
    member = _build(params, 1)
    assert average_networks([member]) is member
