"""The words for how an image is brought to the network's size, in `params.yaml` and out of it."""

from typing import Literal

BlackBars = Literal["keep", "cut"]
"""What becomes of black bars around an image before it is resized."""


def height_and_width(image_size: int | str) -> tuple[int, int]:
    """Gives the sides of an image in pixels: of 128 both are, 128x64 is height by width."""
    height, _, width = str(image_size).partition("x")
    return int(height), int(width or height)
