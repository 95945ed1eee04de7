"""Types of `params.yaml` for resizing images; the served model uses them too."""

from typing import Literal

BlackBars = Literal["keep", "cut"]
"""Whether black bars around an image are kept or cut off before resizing."""


def height_and_width(image_size: int | str) -> tuple[int, int]:
    """Returns height and width in pixels: `128` is a square, `128x64` is height x width."""
    height, _, width = str(image_size).partition("x")
    return int(height), int(width or height)
