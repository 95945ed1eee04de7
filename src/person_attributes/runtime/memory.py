"""Translates the errors of backends whose memory runs out."""

import contextlib
from collections.abc import Iterator

from person_attributes.errors import UntrainableError

_OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",
    "ResourceExhausted",
    "OutOfMemory",
    "out of memory",
    "allocate memory",
)
"""Texts in the errors of the backends; each backend has its own exception."""


@contextlib.contextmanager
def translate_out_of_memory(
    name: str,
    batch_size: int,
    image_size: int | str,
    keys: str = "the phase's batch_size or image_size",
) -> Iterator[None]:
    """Translates errors of the backends in the block, which runs a network, into one line.

    Args:
        name: The phase or stage, for the message.
        batch_size: The number of images in a batch.
        image_size: Their size in pixels.
        keys: The parameters to lower; those of a phase by default.

    Raises:
        UntrainableError: If memory runs out. Lower the parameters that the message names.
    """
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if not isinstance(error, MemoryError) and not any(word in text for word in _OUT_OF_MEMORY):
            raise
        raise UntrainableError(
            f"{name}: out of memory with batches of {batch_size} images of {image_size} px. Lower "
            f"{keys}, and run the command again."
        ) from None
