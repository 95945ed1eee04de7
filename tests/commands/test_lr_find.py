import numpy as np
import pytest
from one_hot import one_hot
from tiny_phase import CLASSES, ROWS, build_tiny, make_batches, make_recipe

from person_attributes.commands.lr_find import (
    RangeTest,
    draw_in_terminal,
    draw_range_test,
    find_learning_rate,
    suggest_rate,
)
from person_attributes.config import Params
from person_attributes.data.batches import ImageBatches
from person_attributes.errors import TrainingError
from person_attributes.training.phase import make_network


def test_the_suggestion_is_where_the_loss_falls_fastest(random: np.random.Generator) -> None:
    """The loss falls around 1e-3, is lowest at 1e-2, then rises. Noise at the start is ignored."""
    rates = np.geomspace(1e-6, 1, 200)
    exponents = np.log10(rates)
    losses = 2 - 1 / (1 + np.exp(-4 * (exponents + 3))) + np.exp(3 * (exponents + 1))
    assert np.log10(suggest_rate(rates, losses)) == pytest.approx(-3, abs=0.2)
    noisy = losses + random.normal(scale=0.02, size=200)
    noisy[:3] += [0.5, 0.2, 0.1]
    assert np.log10(suggest_rate(rates, noisy)) == pytest.approx(-3, abs=0.4)


def test_a_loss_that_only_rises_suggests_a_tenth_of_the_first_rate() -> None:
    rates = np.geomspace(1e-3, 1, 50)
    assert suggest_rate(rates, np.linspace(1, 5, 50)) == pytest.approx(1e-4)


def test_a_range_test_raises_the_rate_until_the_loss_diverges(
    params: Params,
) -> None:
    small = params.change(
        {
            "phases.p1.batch_size": 8,
            "lr_finder.lowest": 1.0e-5,
            "lr_finder.highest": 1.0e6,
            "lr_finder.batches": 60,
        }
    )
    train, recipe = make_batches(1), make_recipe(small)
    network = make_network(build_tiny(small), train, recipe)
    test = find_learning_rate(network, train, recipe, small.lr_finder)
    assert 3 < len(test.rates) < 60, "stops before the highest rate"
    np.testing.assert_allclose(np.diff(np.log(test.rates)), np.log(1e11) / 59, rtol=1e-6)
    assert np.isfinite(test.losses).all()
    assert test.rates[0] / 10 <= test.suggestion <= test.rates[-1]
    assert test.losses.max() <= 3 * test.losses.min()
    assert draw_range_test(test, "#2a6f97").startswith(b"\x89PNG")


def test_a_range_test_goes_on_where_the_objective_is_negative(params: Params) -> None:
    """With learned weights of heads, the objective contains logarithms."""
    small = params.change(
        {
            "phases.p1.batch_size": 8,
            "lr_finder.lowest": 1.0e-3,
            "lr_finder.highest": 0.1,
            "lr_finder.batches": 80,
        }
    )
    images = np.random.default_rng(5).integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)
    labels = {head: one_hot([0] * ROWS, classes) for head, classes in CLASSES.items()}
    train = ImageBatches(images, labels, np.arange(ROWS), 8, augmenter=None, seed=1)
    recipe = make_recipe(small, loss="learned")
    network = make_network(build_tiny(small), train, recipe)
    test = find_learning_rate(network, train, recipe, small.lr_finder)
    network.reset_metrics()
    assert network.train_on_batch(*train[0], return_dict=True)["objective"] < 0
    assert len(test.rates) == 80
    assert test.losses.min() > 0


def test_a_first_rate_that_is_too_high_is_one_line(params: Params) -> None:
    small = params.change(
        {
            "phases.p1.batch_size": 8,
            "optimizers.sgd.clip_norm": 0.0,
            "phases.p1.optimizer": "sgd",
            "lr_finder.lowest": 1.0e20,
            "lr_finder.highest": 1.0e21,
        }
    )
    train, recipe = make_batches(1), make_recipe(small, optimizer="sgd")
    network = make_network(build_tiny(small), train, recipe)
    with pytest.raises(
        TrainingError, match=r"diverges within \d batches\. Lower lr_finder\.lowest"
    ):
        find_learning_rate(network, train, recipe, small.lr_finder)


def test_the_terminal_shows_the_curve_and_the_suggestion() -> None:
    rates = np.geomspace(1e-5, 1e-1, 40)
    drawn = draw_in_terminal(RangeTest(rates, np.linspace(3, 1, 40), 1e-3)).splitlines()
    assert len(drawn) == 13
    assert drawn[0].split()[0] == "3.400"
    assert drawn[-2].split()[0] == "1.000"
    assert drawn[-2].rstrip().endswith("*")
    assert sum("|" in line for line in drawn) >= 10
    assert drawn[-1].split() == ["1.0e-05", "1.0e-01"]
