"""The command `lr-find`: the learning-rate range test.

Smith 2017, https://arxiv.org/abs/1506.01186
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from person_attributes.config import LearningRateFinderParams, Params, Recipe
from person_attributes.data.batches import ImageBatches
from person_attributes.data.dataset import Dataset
from person_attributes.drawing.figures import new_figure, to_png
from person_attributes.errors import TrainingError
from person_attributes.files import writing
from person_attributes.pipeline.phases import prepare_phase, select_phase_params
from person_attributes.runtime.memory import translate_out_of_memory
from person_attributes.training.features import cache_features
from person_attributes.training.objective import PhaseNetwork, compile_network
from person_attributes.training.optimizer import make_optimizer
from person_attributes.training.phase import has_constant_features, make_network
from person_attributes.workspace import Workspace


def lr_find(workspace: Workspace, params: Params, phase: str) -> None:
    """Suggests a learning rate for a phase by a range test. No stage depends on it."""
    # Imported here because the tests of other backends run without MLflow.
    from person_attributes.tracking.runs import open_single_run

    recipe, picture = params.recipe(phase), workspace.range_test(phase)
    section = recipe.phase
    used = select_phase_params(params, phase) | {"lr_finder": params.lr_finder.model_dump()}
    with (
        open_single_run(f"lr-find@{phase}", workspace, used) as run,
        tempfile.TemporaryDirectory() as folder,
        translate_out_of_memory(phase, section.batch_size, section.image_size),
    ):
        dataset = Dataset(workspace, section.image_size)
        classifier, train_batches, _ = prepare_phase(dataset, params, phase)
        network = make_network(classifier, train_batches, recipe)
        if has_constant_features(recipe, train_batches):
            path = Path(folder) / "features.npy"
            train_batches, _ = cache_features(classifier, train_batches, train_batches, path)
        test = find_learning_rate(network, train_batches, recipe, params.lr_finder)
        with writing(picture) as path:
            path.write_bytes(draw_range_test(test, params.report.colour))
        run.log_file(picture)
        for step, (rate, loss) in enumerate(zip(test.rates, test.losses, strict=True)):
            run.log_metrics({"learning_rate": rate, "loss": loss}, step=step)
        run.log_metrics({"suggested_learning_rate": test.suggestion})
        print(draw_in_terminal(test))
        print(
            f"lr-find: the loss of {phase} falls fastest at {test.suggestion:.1e}; see "
            f"{workspace.relative(picture)}. Set phases.{phase}.learning_rate to this value, or "
            "somewhat higher for a schedule that decreases."
        )


@dataclass(frozen=True)
class RangeTest:
    """The result of a range test.

    Attributes:
        rates: The learning rate of each batch that was trained, (n,).
        losses: The smoothed `loss` after each batch, (n,), never negative.
        suggestion: The rate at which the loss falls fastest.
    """

    rates: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]
    suggestion: float


def find_learning_rate(
    network: PhaseNetwork, train: ImageBatches, recipe: Recipe, finder: LearningRateFinderParams
) -> RangeTest:
    """Trains with a learning rate that rises geometrically per batch, until the loss diverges.

    The loss is the plain sum of cross-entropies. The objective would not do: it may be negative if
    the weights of heads are learned, and a multiple of a negative value is lower, not higher.

    Args:
        network: The network with the starting weights of the phase. They are overwritten.
        train: Training batches; repeated if the test needs more.
        recipe: The phase. Its schedule is not used.
        finder: The range of rates, the number of batches and the smoothing.

    Returns:
        Rates, losses and a suggestion.

    Raises:
        TrainingError: If the loss diverges within the first batches. Lower `lr_finder.lowest`.
    """
    optimizer = make_optimizer(recipe.optimizer, finder.lowest)
    compile_network(network, optimizer, jit_compile=recipe.training.jit_compile)
    rates = np.geomspace(finder.lowest, finder.highest, finder.batches)
    smoothed, average = list[float](), 0.0
    train.epoch = 0
    for number, rate in enumerate(tqdm(rates, desc="range test", unit="batch", disable=None)):
        if number and number % len(train) == 0:
            train.epoch += 1
        optimizer.learning_rate = rate
        network.reset_metrics()
        metrics = network.train_on_batch(*train[number % len(train)], return_dict=True)
        average = finder.smoothing * average + (1 - finder.smoothing) * float(metrics["loss"])
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
    """Returns the rate at which the loss falls fastest over the logarithm of the rate.

    The slope is fitted to a tenth of the batches, so no single batch decides. The first tenth is
    skipped, because its smoothed losses average few batches. Rates above that of the lowest loss
    are skipped too. If no rate is left, the suggestion is a tenth of the rate of the lowest loss.

    Args:
        rates: The learning rate of each batch, (n,), rising.
        losses: The smoothed loss after each batch, (n,).
    """
    half = max(len(rates) // 20, 2)
    least = int(losses.argmin())
    middles = range(2 * half, least - half + 1)
    if not middles:
        return float(rates[least] / 10)
    slopes = [
        np.polyfit(
            np.log(rates[middle - half : middle + half + 1]),
            losses[middle - half : middle + half + 1],
            deg=1,
        )[0]
        for middle in middles
    ]
    return float(rates[middles[int(np.argmin(slopes))]])


def _find_ceiling(losses: npt.NDArray[np.float64]) -> float:
    """Returns the highest loss to draw: diverging losses would flatten the rest of the curve."""
    low, high = losses.min(), losses[: int(losses.argmin()) + 1].max()
    return float(low + 1.2 * max(high - low, 1e-3))


def draw_range_test(test: RangeTest, colour: str) -> bytes:
    """Draws the losses over the rates, with the suggestion as a line.

    Returns:
        A PNG file.
    """
    figure = new_figure(8, 4.5)
    axis = figure.subplots()
    axis.plot(test.rates, test.losses, color=colour)
    axis.axvline(test.suggestion, color="#d62828", linewidth=1)
    top = axis.get_xaxis_transform()
    axis.text(test.suggestion, 0.99, f" {test.suggestion:.1e}", va="top", transform=top)
    axis.set_xscale("log")
    axis.set_ylim(top=_find_ceiling(test.losses))
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss, smoothed")
    axis.spines[["top", "right"]].set_visible(False)
    return to_png(figure)


def draw_in_terminal(test: RangeTest, width: int = 60, height: int = 12) -> str:
    """Draws the losses over the rates, on a logarithmic scale, as text."""
    columns = np.interp(np.linspace(0, 1, width), np.linspace(0, 1, len(test.losses)), test.losses)
    low, high = columns.min(), _find_ceiling(test.losses)
    columns = np.minimum(columns, high)
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
