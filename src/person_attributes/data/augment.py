"""Augmentation of training images with imgaug, reproducible from a seed."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from person_attributes.config import AugmentationParams, AugmenterParams
from person_attributes.data.images import Images
from person_attributes.data.random_erasing import make_random_erasing
from person_attributes.errors import ParamsError, suggest
from person_attributes.framing import height_and_width

_TRIES = 12
"""Number of seeds with which a policy is checked, because augmenters may act at random."""

_CHECKED_IMAGES = 4

_CHOICE = "choice"
"""Key of a list of choices, to distinguish it from a list of two numbers, which is a range."""


class Augmenter:
    """Applies one augmentation policy to batches.

    The result depends only on the images and the seed of a call, not on earlier calls.
    """

    def __init__(self, policy: AugmentationParams) -> None:
        """Builds the augmenters.

        Raises:
            ParamsError: If an augmenter or one of its arguments is unknown; correct `params.yaml`.
        """
        # OpenCV's threads do not survive a fork, and images are too small to need them.
        cv2.setNumThreads(0)
        self._pipeline = _import_imgaug().augmenters.Sequential(_build_all(policy.augmenters))

    def __call__(self, images: Images, seed: int) -> Images:
        """Augments a batch.

        Args:
            images: (n, height, width, 3) uint8; not modified.
            seed: Seed of all random choices.

        Returns:
            New images of the same shape and dtype.
        """
        return np.stack(self.augment_each(images, seed))

    def augment_each(self, images: Images, seed: int) -> list[npt.NDArray[Any]]:
        """Augments a batch; a policy that `check_policies` refuses may change shapes and dtypes."""
        self._pipeline.seed_(seed)
        # A list, because imgaug copies an array several times.
        augmented: list[npt.NDArray[Any]] = self._pipeline.augment_images(list(images))
        return augmented


def check_policies(
    policies: Mapping[str, AugmentationParams], image_sizes: Sequence[int | str]
) -> None:
    """Builds every policy and applies its augmenters to random images, with several seeds.

    Args:
        policies: `{name: policy}`.
        image_sizes: The sizes of the training images, as in `params.yaml`.

    Raises:
        ParamsError: If an augmenter cannot be built, fails, changes the shape of an image, or does
            not repeat with its seed. The message names it and says what to change.
    """
    random = np.random.default_rng(0)
    shapes = [(_CHECKED_IMAGES, *height_and_width(size), 3) for size in image_sizes]
    noise = [random.integers(0, 256, shape, np.uint8) for shape in shapes]
    for name, policy in policies.items():
        for number, entry in enumerate(policy.augmenters):
            try:
                _check_augmenter(policy.model_copy(update={"augmenters": (entry,)}), noise)
            except ParamsError as error:
                where = f"augmentation.{name}.augmenters.{number}: {next(iter(entry))}"
                raise ParamsError(f"params.yaml: {where}: {error}") from None


def _check_augmenter(policy: AugmentationParams, noise: Sequence[Images]) -> None:
    augmenters = _build_twice(policy)
    for images in noise:
        for seed in range(_TRIES):
            first, second = _run(augmenters, images, seed)
            _check_shapes(images, first)
            _check_equal(first, second)


def _build_twice(policy: AugmentationParams) -> list[Augmenter]:
    """Builds two instances that differ in the generators that imgaug does not seed."""
    built = []
    for seed in range(2):
        _import_imgaug().seed(seed)
        try:
            built.append(Augmenter(policy))
        except ParamsError:
            raise
        except Exception as error:  # imgaug raises AssertionError and others
            raise ParamsError(f"{_describe(error)}. Correct its arguments.") from None
    return built


def _run(
    augmenters: Sequence[Augmenter], images: Images, seed: int
) -> list[list[npt.NDArray[Any]]]:
    try:
        return [augmenter.augment_each(images, seed) for augmenter in augmenters]
    except AssertionError as error:  # imgaug checks some arguments only here
        raise ParamsError(f"{_describe(error)}. Correct its arguments.") from None
    except Exception as error:
        raise ParamsError(
            f"imgaug {_import_imgaug().__version__} with NumPy {np.__version__} cannot apply it: "
            f"{_describe(error)}. Use another augmenter, or correct its arguments."
        ) from None


def _describe(error: Exception) -> str:
    return str(error).partition("\n")[0][:200].rstrip(" .") or type(error).__name__


def _check_shapes(images: Images, augmented: Sequence[npt.NDArray[Any]]) -> None:
    for image in augmented:
        if image.shape != images.shape[1:] or image.dtype != np.uint8:
            raise ParamsError(
                f"changes images to {image.shape} {image.dtype}. Expected an augmenter that keeps "
                "their shape and dtype. Remove it."
            )


def _check_equal(first: Sequence[npt.NDArray[Any]], second: Sequence[npt.NDArray[Any]]) -> None:
    if any((one != other).any() for one, other in zip(first, second, strict=True)):
        raise ParamsError(
            "does not repeat with its seed. Expected the same images from the same seed, because "
            "training must be reproducible. Remove it, or set its random_order to false if it has "
            "one."
        )


def _import_imgaug() -> Any:
    """Imports imgaug 0.4.0, which uses names that NumPy removed in versions 1.24 and 2."""
    kinds = {
        "float": [np.float16, np.float32, np.float64],
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    }
    old = {"bool": bool, "int": int, "float": float, "complex": complex, "sctypes": kinds}
    for name, value in old.items():
        if name not in np.__dict__:  # hasattr would warn
            setattr(np, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import imgaug
        import imgaug.augmenters
    return imgaug


def _build_all(entries: Sequence[AugmenterParams]) -> list[Any]:
    return [_build(name, arguments) for entry in entries for name, arguments in entry.items()]


def _build(name: str, arguments: Mapping[str, Any]) -> Any:
    """Builds one augmenter from its name and arguments; arguments may contain augmenters."""
    known = _known_augmenters()
    if name not in known:
        raise ParamsError(
            f"imgaug has no augmenter of this name.{suggest(name, list(known))} See "
            "https://imgaug.readthedocs.io for the list."
        )
    accepted = [key for key in inspect.signature(known[name]).parameters if key != "self"]
    for key in arguments:
        if key not in accepted:
            raise ParamsError(
                f"unknown argument {key!r}.{suggest(key, accepted)} "
                f"Expected one of {', '.join(accepted)}. Rename or remove it."
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return known[name](**{key: _convert(value) for key, value in arguments.items()})


def _convert(value: Any) -> Any:
    """Converts a value of `params.yaml` to an argument of imgaug.

    A list of two numbers becomes a range (a tuple), `{choice: [...]}` becomes a list of choices,
    and a list of augmenters is built.
    """
    if isinstance(value, Mapping):
        if set(value) == {_CHOICE}:
            return list(value[_CHOICE])
        return {key: _convert(entry) for key, entry in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if value and all(_is_augmenter(entry) for entry in value):
        return _build_all(value)
    if len(value) == 2 and all(isinstance(entry, int | float) for entry in value):
        return tuple(value)
    return [_convert(entry) for entry in value]


def _is_augmenter(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) == 1
        and next(iter(value)) in _known_augmenters()
        and isinstance(next(iter(value.values())), Mapping)
    )


def _known_augmenters() -> dict[str, Any]:
    """Returns the augmenters of imgaug and `RandomErasing` by name."""
    augmenters = _import_imgaug().augmenters
    known = {
        name: value
        for name, value in vars(augmenters).items()
        if inspect.isclass(value) and issubclass(value, augmenters.Augmenter)
    }
    return known | {"RandomErasing": partial(make_random_erasing, augmenters.Augmenter)}
