import keras
import numpy as np

from person_attributes.data.batches import ImageBatches
from person_attributes.evaluation.predictions import predict_batches


class _Counted(keras.layers.Layer):
    """Counts how often its network is traced."""

    traces = 0

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        _Counted.traces += 1
        return keras.ops.mean(keras.ops.cast(inputs, "float32"), axis=(1, 2)) / 255


def test_every_row_is_predicted_and_the_network_is_traced_once(random: np.random.Generator) -> None:
    images = random.integers(0, 256, (11, 4, 4, 3), np.uint8)
    image = keras.Input((4, 4, 3), dtype="uint8")
    network = keras.Model(image, {"mean": _Counted()(image)})
    built = _Counted.traces
    targets = {"mean": np.eye(3, dtype=np.float32)[np.arange(11) % 3]}
    for count in (10, 8, 11):
        positions = np.arange(count)[::-1]
        batches = ImageBatches(images, targets, positions, 4, augmenter=None, seed=None)
        expected = images[positions].mean(axis=(1, 2)) / 255
        np.testing.assert_allclose(predict_batches(network, batches)["mean"], expected, rtol=1e-5)
    assert _Counted.traces == built + 1


def test_fewer_rows_than_a_batch_are_predicted(random: np.random.Generator) -> None:
    images = random.integers(0, 256, (3, 4, 4, 3), np.uint8)
    image = keras.Input((4, 4, 3), dtype="uint8")
    network = keras.Model(image, {"mean": _Counted()(image)})
    targets = {"mean": np.eye(3, dtype=np.float32)}
    batches = ImageBatches(images, targets, np.arange(3), 64, augmenter=None, seed=None)
    expected = images.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(predict_batches(network, batches)["mean"], expected, rtol=1e-5)
