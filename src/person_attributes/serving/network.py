"""The exported network in ONNX Runtime."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from person_attributes.data.images import Images
from person_attributes.serving.threads import count_threads

Probabilities = dict[str, npt.NDArray[np.float32]]
"""The probabilities of the classes of each head."""


_RUNS = 5
"""Runs of the network that are timed when it is loaded. The first runs are slow."""


class Network:
    """An exported network on the CPU. It is thread-safe.

    The probabilities of an image depend neither on other images nor on the number of threads.
    """

    def __init__(self, path: Path) -> None:
        """Loads an `.onnx` file, and finds out whether it is faster on all cores than on one."""
        self._one_core = self._all_cores = _load(path, threads=1)
        self._input = self._one_core.get_inputs()[0]
        self._heads = [output.name for output in self._one_core.get_outputs()]
        seconds, threads = self._time(self._one_core), count_threads()
        if threads > 1:
            all_cores = _load(path, threads)
            if self._time(all_cores) < seconds:
                self._all_cores = all_cores

    @property
    def input_name(self) -> str:
        """The name of the input."""
        return str(self._input.name)

    @property
    def image_size(self) -> str:
        """Height and width of the images in pixels, such as 128x64."""
        _, height, width, _ = self._input.shape
        return f"{height}x{width}"

    def predict_image(self, image: npt.NDArray[np.uint8], all_cores: bool) -> Probabilities:
        """Predicts one image.

        Args:
            image: (height, width, 3) uint8.
            all_cores: Whether to use all cores, or one while other threads predict other images.

        Returns:
            `{head: (classes,) float32}`.
        """
        session = self._all_cores if all_cores else self._one_core
        answers = self._run(session, image)
        return {head: answer[0] for head, answer in zip(self._heads, answers, strict=True)}

    def predict(self, images: Images) -> Probabilities:
        """Predicts images one by one, each on all cores.

        In a batch, the last digits of a prediction depend on the other images. A batch is hardly
        faster here.

        Args:
            images: (n, height, width, 3) uint8.

        Returns:
            `{head: (n, classes) float32}`.
        """
        answers = [self.predict_image(image, True) for image in images]
        return {head: np.stack([answer[head] for answer in answers]) for head in self._heads}

    def _run(
        self, session: onnxruntime.InferenceSession, image: npt.NDArray[np.uint8]
    ) -> list[npt.NDArray[np.float32]]:
        answers: list[npt.NDArray[np.float32]]
        answers = session.run(self._heads, {self._input.name: image[None]})
        return answers

    def _time(self, session: onnxruntime.InferenceSession) -> float:
        """Returns the seconds that an image takes."""
        image, seconds = np.zeros(self._input.shape[1:], np.uint8), []
        for _ in range(_RUNS):
            began = time.perf_counter()
            self._run(session, image)
            seconds.append(time.perf_counter() - began)
        return min(seconds)


def _load(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for the next image would take the cores from decoders and other processes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Hides warnings about models that are already optimized.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
