"""Post-training quantization: an 8-bit network that is smaller and faster on CPUs.

Weights and activations of convolutions are quantized with the ranges that they have on training
rows: Jacob et al., Quantization and Training of Neural Networks, 2018.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from person_attributes.config import Params
from person_attributes.data.images import Images
from person_attributes.evaluation.gate import Condition, check_compressed
from person_attributes.evaluation.predictions import Predictions
from person_attributes.serving.network import Network


def quantize_network(network: Path, images: Images, quantized: Path) -> None:
    """Writes the 8-bit network.

    Args:
        network: The exported `.onnx` file.
        images: Images of training rows, (n, height, width, 3), to measure the ranges on.
        quantized: The `.onnx` file to write.
    """
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # Fuses operators. The shapes are known without symbolic inference.
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
            self._remaining: Iterator[npt.NDArray[np.uint8]] = iter(images)

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            image = next(self._remaining, None)
            return None if image is None else {name: image[None]}

    return Reader()


def check_quantized(
    quantized: Path,
    images: Images,
    positions: npt.NDArray[np.intp],
    predictions: Predictions,
    params: Params,
) -> tuple[list[Condition], Predictions]:
    """Compares the 8-bit network with the exported one on the same rows.

    Args:
        quantized: The 8-bit `.onnx` file.
        images: A pack.
        positions: The positions of the rows in the pack, (n,).
        predictions: The predictions of the exported network on those rows.
        params: The gate, the evaluation and the seed of the bootstrap.

    Returns:
        The conditions, and the predictions of the 8-bit network.
    """
    network = Network(quantized)
    rows = tqdm(positions, "scoring in 8 bits", unit="image", disable=None)
    answers = [network.predict(images[position : position + 1]) for position in rows]
    y_prob = {head: np.concatenate([answer[head] for answer in answers]) for head in answers[0]}
    after = replace(predictions, y_prob=y_prob)
    conditions = check_compressed(
        predictions, after, params.registry.gate, params.evaluation, params.seed
    )
    return [replace(one, name=f"8 bits: {one.name}") for one in conditions], after
