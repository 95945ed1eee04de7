"""The learning-rate range test (Smith 2017, https://arxiv.org/abs/1506.01186)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from person_attributes.config import LearningRateFinderParams, Recipe
from person_attributes.data.batches import ImageBatches
from person_attributes.drawing.figures import new_figure, to_png
from person_attributes.errors import TrainingError
from person_attributes.training.objective import OBJECTIVE, PhaseNetwork, compile_network
from person_attributes.training.optimizer import make_optimizer


@dataclass(frozen=True)
class RangeTest:
    """What the test found.

    Attributes:
        rates: The learning rate of each batch that was trained.
        losses: The objective after it, smoothed.
        suggestion: The rate at which the loss falls fastest.
    """

    rates: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]
    suggestion: float


def find_learning_rate(
    network: PhaseNetwork, train: ImageBatches, recipe: Recipe, finder: LearningRateFinderParams
) -> RangeTest:
    """Trains batch after batch at rates that rise by the same factor, until the loss diverges.

    Args:
        network: Starts from the weights of the phase; they are spoilt after.
        train: Training batches; begun again where they are used up.
        recipe: The phase; its schedule is not used.
        finder: From which rate to which, and over how many batches.

    Returns:
        Rates, losses and a suggestion.

    Raises:
        TrainingError: If the loss is not finite within the first batches: lower `lowest`.
    """
    optimizer = make_optimizer(recipe.optimizer, finder.lowest)
    compile_network(network, optimizer, jit_compile=recipe.training.jit_compile)
    rates = np.geomspace(finder.lowest, finder.highest, finder.batches)
    smoothed: list[float] = []
    average = 0.0
    train.epoch = 0
    for number, rate in enumerate(tqdm(rates, desc="range test", unit="batch", disable=None)):
        if number and number % len(train) == 0:
            train.epoch += 1
        optimizer.learning_rate = rate
        network.reset_metrics()
        told = network.train_on_batch(*train[number % len(train)], return_dict=True)
        average = finder.smoothing * average + (1 - finder.smoothing) * float(told[OBJECTIVE])
        loss = average / (1 - finder.smoothing ** (number + 1))
        if not np.isfinite(loss) or (smoothed and loss > finder.divergence * min(smoothed)):
            break
        smoothed.append(loss)
    losses = np.array(smoothed)
    if len(losses) < 3:
        raise TrainingError(
            f"lr-find: the loss diverges within {len(losses) + 1} batches. Lower lr_finder.lowest "
            f"in params.yaml; it is {finder.lowest:g}."
        )
    return RangeTest(rates[: len(losses)], losses, suggest_rate(rates[: len(losses)], losses))


def suggest_rate(rates: npt.NDArray[np.float64], losses: npt.NDArray[np.float64]) -> float:
    """Gives the rate at which the loss falls fastest over the logarithm of the rate.

    Only what lies before the least loss counts: behind it, noise falls fast too.
    """
    end = max(int(losses.argmin()) + 1, 3)
    slopes = np.gradient(losses[:end], np.log(rates[:end]))
    return float(rates[slopes.argmin()])


def draw_range_test(test: RangeTest, colour: str) -> bytes:
    """Draws the losses over the rates, with the suggestion as a line; PNG bytes."""
    figure = new_figure(8, 4.5)
    axis = figure.subplots()
    axis.plot(test.rates, test.losses, color=colour)
    axis.axvline(test.suggestion, color="#d62828", linewidth=1)
    axis.text(test.suggestion, axis.get_ylim()[1], f" {test.suggestion:.1e}", va="top")
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("objective, smoothed")
    axis.spines[["top", "right"]].set_visible(False)
    return to_png(figure)


def draw_in_terminal(test: RangeTest, width: int = 60, height: int = 12) -> str:
    """Draws the losses as text: rates to the right on a logarithmic scale, losses up."""
    columns = np.interp(np.linspace(0, 1, width), np.linspace(0, 1, len(test.losses)), test.losses)
    low, high = columns.min(), columns.max()
    levels = np.round((columns - low) / max(high - low, 1e-12) * (height - 1)).astype(int)
    mark = np.abs(np.geomspace(test.rates[0], test.rates[-1], width) - test.suggestion).argmin()
    lines = []
    for level in reversed(range(height)):
        dots = [
            "*" if levels[column] == level else "|" if column == mark else " "
            for column in range(width)
        ]
        label = f"{low + (high - low) * level / (height - 1):9.3f}"
        lines.append(f"{label} {''.join(dots)}".rstrip())
    lines.append(f"{'':10}{test.rates[0]:<10.1e}{test.rates[-1]:>{width - 10}.1e}")
    return "\n".join(lines)
