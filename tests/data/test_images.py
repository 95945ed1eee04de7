import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from person_attributes.data.appearance import describe_image
from person_attributes.data.images import decode_image
from person_attributes.errors import ImageError

MEGAPIXELS = 1.0


def _encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _decode(content: bytes) -> Image.Image:
    return decode_image(content, MEGAPIXELS)


WHOLE = _encode(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_all_formats_decode_to_the_same_rgb(format: str) -> None:
    image = Image.new("RGB", (20, 30), (200, 100, 50))
    decoded = _decode(_encode(image, format))
    assert (decoded.mode, decoded.size) == ("RGB", (20, 30))
    assert np.abs(np.asarray(decoded).astype(int) - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_other_modes_are_converted_to_rgb(mode: str) -> None:
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    decoded = _decode(_encode(image, "PNG"))
    assert decoded.mode == "RGB"
    assert np.asarray(decoded).min() == 255


def test_cmyk_keeps_colours() -> None:
    image = Image.new("RGB", (16, 16), (200, 30, 60))
    decoded = np.asarray(_decode(_encode(image.convert("CMYK"), "JPEG"))).astype(int)
    assert np.abs(decoded - (200, 30, 60)).max() <= 6


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_not_clipped(channels: int) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    content = cv2.imencode(".png", np.dstack([ramp] * channels).squeeze())[1].tobytes()
    decoded = np.asarray(_decode(content)).astype(int)
    expected = np.repeat((ramp // 257)[:, :, None], 3, axis=2)
    assert np.abs(decoded - expected).max() <= 1


@pytest.mark.parametrize(("bits", "expected"), [(10, 0.01), (12, 0.06), (16, 1.0)])
def test_the_range_of_grey_levels_tells_how_many_bits_a_file_uses(
    bits: int, expected: float, random: np.random.Generator
) -> None:
    """Values of 12 bits in a 16-bit PNG are nearly black; the data page reports the range."""
    noise = random.integers(0, 2**bits, (64, 64)).astype(np.uint16)
    content = cv2.imencode(".png", noise)[1].tobytes()
    assert describe_image(content, _decode(content)).grey_range == pytest.approx(expected, abs=0.01)


def test_transparent_pixels_become_white() -> None:
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    image.paste((10, 20, 30, 255), (0, 0, 4, 8))
    decoded = np.asarray(_decode(_encode(image, "PNG")))
    assert (decoded[:, :4] == (10, 20, 30)).all()
    assert (decoded[:, 4:] == 255).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(format: str) -> None:
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    assert _decode(_encode(image, format, exif=exif.tobytes())).size == (20, 40)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"404 Not Found", "not a JPEG, PNG, WebP or BMP image, but text$"),
        (b"<html>404", "not a JPEG, .*, but an HTML or XML document$"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
            r"^a pointer of Git LFS\. Run git lfs pull$",
        ),
        (
            _encode(Image.new("RGB", (8, 8)), "GIF"),
            r"not a JPEG, PNG, WebP or BMP image, but a GIF image\. Convert it$",
        ),
        (_encode(Image.new("RGB", (8, 8)), "TIFF"), r", but a TIFF image\. Convert it$"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", r", but an HEIC image\. Convert it$"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", r", but an AVIF image\. Convert it$"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", ", but a video$"),
        (b'<?xml version="1.0"?>\n<svg>', r", but an SVG drawing\. Convert it$"),
        (bytes(128) + b"DICM\2\0", r", but a DICOM image\. Convert it$"),
        (b"\x89PNG\n\x1a\n", ", but a damaged PNG image$"),
        (b"RIFF\0\0\0\0AVI LIST", ", but audio or video$"),
        (bytes(5000), "not a JPEG, PNG, WebP or BMP image$"),
        (WHOLE[: len(WHOLE) // 2], "truncated"),
        (WHOLE[:-40], "truncated"),
        (_encode(Image.new("RGB", (1200, 1000)), "PNG"), "1200 x 1000 pixels, more than 1 million"),
        (
            _encode(Image.new("1", (20000, 20000)), "PNG"),
            "pixels, more than 1 million",
        ),
    ],
    ids=[
        *("empty", "text", "page", "pointer", "gif", "tiff", "heic", "avif", "video", "svg"),
        *("dicom", "png", "riff", "zeros", "half", "last bytes", "large", "bomb"),
    ],
)
def test_an_invalid_image_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        _decode(content)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_animations_are_refused(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 255)]
    content = _encode(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animated"):
        _decode(content)


def test_decoding_does_not_change_the_file(people: Path) -> None:
    path = people / "resized/1.jpg"
    before = path.read_bytes(), path.stat().st_mtime_ns
    _decode(before[0])
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
