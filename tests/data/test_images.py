import io

import numpy as np
import pytest
from PIL import Image

from person_attributes.data.images import decode_image
from person_attributes.errors import ImageError


def _encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_formats_decode_to_the_same_rgb(format: str) -> None:
    image = Image.new("RGB", (20, 30), (200, 100, 50))
    decoded = decode_image(_encode(image, format))
    assert (decoded.mode, decoded.size) == ("RGB", (20, 30))
    assert np.abs(np.asarray(decoded).astype(int) - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    assert np.asarray(decode_image(_encode(image, "PNG"))).min() == 255


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    assert decode_image(_encode(image, "JPEG", exif=exif.tobytes())).size == (20, 40)


@pytest.mark.parametrize(
    "content", [b"", b"text", _encode(Image.new("RGB", (64, 64)), "JPEG")[:300]]
)
def test_what_is_no_whole_image_is_refused(content: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(content)
