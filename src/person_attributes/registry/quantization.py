"""An 8-bit network for processors: smaller and faster, and taken only where the gate lets it.

Weights and activations of convolutions are rounded after training, by the ranges that they have on
training rows: Jacob et al., Quantization and Training of Neural Networks, 2018.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from person_attributes.config import EvaluationParams, GateParams
from person_attributes.data.images import Images
from person_attributes.evaluation.gate import Condition, check_progress
from person_attributes.evaluation.predictions import Predictions
from person_attributes.serving.network import Network


def quantize_network(network: Path, images: Images, quantized: Path) -> None:
    """Writes the 8-bit network.

    Args:
        network: The exported `.onnx` file.
        images: Training rows of its size, whose ranges are taken.
        quantized: The `.onnx` file to write.
    """
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # Joins what is computed at once in the end; of shapes it knows what it needs.
        quantization.quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(quantized),
            _make_reader(Network(network).input_name, images),
            per_channel=True,
            op_types_to_quantize=["Conv"],
        )


def _make_reader(name: str, images: Images) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[npt.NDArray[np.uint8]] = iter(images)

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            image = next(self._left, None)
            return None if image is None else {name: image[None]}

    return Reader()


def check_quantized(
    quantized: Path,
    images: Images,
    positions: npt.NDArray[np.intp],
    predictions: Predictions,
    gate: GateParams,
    evaluation: EvaluationParams,
    seed: int,
) -> tuple[list[Condition], Predictions]:
    """Holds the 8-bit network against the exported one on the same rows, by the gate's conditions.

    Args:
        quantized: The 8-bit `.onnx` file.
        images: A pack.
        positions: Where the rows lie in it.
        predictions: Of the exported network.
        gate: The section `registry.gate`.
        evaluation: The section `evaluation`.
        seed: Of the bootstrap.

    Returns:
        The conditions, and what the 8-bit network says of the rows.
    """
    network = Network(quantized)
    rows = tqdm(positions, "scoring in 8 bits", unit="image", disable=None)
    answers = [network.predict(images[position : position + 1]) for position in rows]
    y_prob = {head: np.concatenate([one[head] for one in answers]) for head in answers[0]}
    said = replace(predictions, y_prob=y_prob)
    conditions = check_progress(predictions, said, gate, evaluation, seed)
    return [replace(one, name=f"8 bits: {one.name}") for one in conditions], said
