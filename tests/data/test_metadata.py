"""Damaged metadata costs no image, and prints nothing."""

import io
import struct
from collections.abc import Callable
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from person_attributes.data.images import decode_image
from person_attributes.data.metadata import split_metadata
from person_attributes.errors import ImageError

FORMATS = ["JPEG", "PNG", "WEBP"]
NOISE = Image.effect_noise((24, 16), 60).convert("RGB")


def _encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _decode(content: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(decode_image(content, 1.0))


def _exif(*entries: bytes, order: str = ">") -> bytes:
    """Returns a block of EXIF with the given entries, each of 12 bytes."""
    start = {">": b"MM\0*", "<": b"II*\0"}[order]
    head = start + struct.pack(f"{order}IH", 8, len(entries))
    return b"Exif\0\0" + head + b"".join(entries) + bytes(4)


def _entry(kind: int, count: int, value: bytes) -> bytes:
    return struct.pack(">HHI4s", 0x0112, kind, count, value)


SIX = _entry(3, 1, b"\0\6\0\0")
"""The orientation 6: the camera was turned, and the image is shown turned by 270 degrees."""


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_applied(format: str, orientation: int) -> None:
    """As Pillow's `exif_transpose` applies it; 0 and 9 are none."""
    upright = _decode(_encode(NOISE, format))
    turned = Image.fromarray(upright)
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(_decode(_encode(NOISE, format, exif=exif.tobytes())), expected)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0MM",
        b"Exif\0\0not an EXIF block",
        _exif(SIX)[:-12],
        _exif(_entry(2, 1, b"six!")),
        _exif(_entry(12, 1, b"\0\0\0\7")),
        _exif(_entry(3, 2**31, b"\0\6\0\0")),
        _exif(_entry(3, 0, b"\0\6\0\0")),
        _exif(_entry(3, 1, b"\xff\xff\0\0")),
        b"Exif\0\0MM\0*" + struct.pack(">I", 2**32 - 1) + SIX,
        b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 65535),
        _exif(struct.pack(">HHII", 0x8769, 4, 1, 2**32 - 1)),
        _exif(struct.pack(">HHII", 0x0100, 77, 2**32 - 1, 2**32 - 1)),
        _exif(struct.pack(">HHII", 0x011A, 5, 1, 9999)),
    ],
    ids=[
        "empty",
        "four bytes",
        "text",
        "truncated",
        "of type text",
        "of type float64",
        "a huge count",
        "count zero",
        "the value 65535",
        "a directory outside the block",
        "missing entries",
        "a pointer outside the block",
        "an unknown type",
        "a resolution outside the block",
    ],
)
def test_damaged_exif_is_no_orientation(format: str, exif: bytes) -> None:
    expected = _decode(_encode(NOISE, format))
    np.testing.assert_array_equal(_decode(_encode(NOISE, format, exif=exif)), expected)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "exif",
    [
        _exif(SIX, struct.pack(">HHII", 0x011A, 5, 2**31, 9999)),
        _exif(struct.pack(">HHII", 0x010F, 2, 2**32 - 1, 9999), SIX),
        _exif(SIX)[:26],
        _exif(_entry(4, 1, b"\0\0\0\6")),
        _exif(struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), order="<"),
    ],
    ids=["before damage", "behind damage", "no end", "of type LONG", "in Intel's byte order"],
)
def test_a_readable_orientation_is_applied(format: str, exif: bytes) -> None:
    expected = np.rot90(_decode(_encode(NOISE, format)), -1)
    np.testing.assert_array_equal(_decode(_encode(NOISE, format, exif=exif)), expected)


def _png_with(write: Callable[[PngInfo], None]) -> bytes:
    info = PngInfo()
    write(info)
    return _encode(NOISE, "PNG", pnginfo=info)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
RAW = "\nexif\n      40\n" + _exif(SIX).hex()


@pytest.mark.parametrize(
    "content",
    [
        _encode(NOISE, "PNG", exif=_exif(SIX)),
        _png_with(lambda info: info.add_itxt("XML:com.adobe.xmp", XMP.decode())),
        _png_with(lambda info: info.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)),
        _png_with(lambda info: info.add_text("Raw profile type exif", RAW)),
        _png_with(lambda info: info.add_text("Raw profile type exif", RAW, zip=True)),
    ],
    ids=["EXIF", "XMP", "compressed XMP", "ImageMagick", "compressed ImageMagick"],
)
def test_a_png_keeps_its_orientation_in_several_forms(content: bytes) -> None:
    np.testing.assert_array_equal(_decode(content), np.rot90(np.asarray(NOISE), -1))


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_xmp_gives_the_orientation_where_exif_does_not(format: str) -> None:
    upright = _decode(_encode(NOISE, format))
    content = _encode(NOISE, format, xmp=XMP, exif=b"Exif\0\0damaged")
    np.testing.assert_array_equal(_decode(content), np.rot90(upright, -1))
    content = _encode(NOISE, format, xmp=XMP, exif=_exif(_entry(3, 1, b"\0\3\0\0")))
    np.testing.assert_array_equal(_decode(content), np.rot90(upright, 2))


def test_the_first_image_of_an_mpo_is_decoded_even_if_its_index_is_damaged() -> None:
    content = _encode(NOISE, "MPO", save_all=True, append_images=[NOISE.rotate(180)])
    index = content.index(b"MPF\0")
    expected = _decode(_encode(NOISE, "JPEG"))
    np.testing.assert_array_equal(_decode(content), expected)
    for place in range(index + 4, index + 40):
        damaged = bytearray(content)
        damaged[place] = 0xFF
        np.testing.assert_array_equal(_decode(bytes(damaged)), expected)


def _insert_chunk(content: bytes, kind: bytes, data: bytes) -> bytes:
    """Inserts a chunk with a wrong checksum behind the header of a PNG."""
    chunk = struct.pack(">I", len(data)) + kind + data + b"\0\0\0\0"
    return content[:33] + chunk + content[33:]


@pytest.mark.parametrize("kind", [b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"acTL"])
@pytest.mark.parametrize("data", [b"", b"x", bytes(40)], ids=["empty", "a byte", "zeros"])
def test_damaged_optional_chunks_of_a_png_are_skipped(kind: bytes, data: bytes) -> None:
    content = _insert_chunk(_encode(NOISE, "PNG"), kind, data)
    np.testing.assert_array_equal(_decode(content), np.asarray(NOISE))


@pytest.mark.parametrize("format", FORMATS)
def test_randomly_damaged_metadata_leaves_the_pixels(format: str) -> None:
    """300 blocks of EXIF without an orientation; warnings are errors in these tests."""
    random = Random(0)
    exif = Image.Exif()
    exif.update({0x010F: "maker", 0x0100: 24, 0x011A: 72.0, 0x8769: {0x9003: "2020:01:01"}})
    block = exif.tobytes()
    expected = _decode(_encode(NOISE, format))
    for _ in range(300):
        damaged = bytearray(block)
        for _ in range(random.randint(1, 10)):
            place = random.randrange(6, len(damaged))
            damaged[place] = random.choice((0, 255, random.randrange(256)))
        content = _encode(NOISE, format, exif=bytes(damaged[: random.randint(8, len(damaged))]))
        np.testing.assert_array_equal(_decode(content), expected)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_webp_that_ends_within_its_metadata_is_decoded(cut: int) -> None:
    content = _encode(NOISE, "WEBP", exif=_exif() + bytes(60))
    expected = _decode(_encode(NOISE, "WEBP"))
    np.testing.assert_array_equal(_decode(content[:-cut]), expected)


@pytest.mark.parametrize("format", [*FORMATS, "BMP"])
def test_a_file_without_metadata_is_not_copied(format: str) -> None:
    content = _encode(NOISE, format)
    assert split_metadata(content)[0] is content


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 4_000_000,
        b"\xff\xd8\xff" + b"\xff\0" * 2_000_000,
        b"\xff\xd8\xff\xe1\xff\xffExif\0\0" + b"Exif\0\0" * 600_000,
        b"RIFF\0\0\xff\0WEBP" + b"XMP \0\0\0\0" * 500_000,
        b"RIFF\0\0\xff\0WEBPEXIF\0\0\xf0\0" + b"Exif\0\0" * 600_000,
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0tEXt\0\0\0\0" * 300_000,
    ],
    ids=["fill bytes", "escaped bytes", "headers", "empty chunks", "headers in WebP", "texts"],
)
def test_hostile_metadata_is_refused_at_once(content: bytes) -> None:
    """Reading takes milliseconds; a quadratic search in these 4 MB would take hours."""
    with pytest.raises(ImageError):
        _decode(content)


def test_very_many_blocks_of_metadata_are_refused() -> None:
    jpeg = _encode(NOISE, "JPEG")
    with pytest.raises(ImageError, match="more than 1000 blocks of metadata"):
        _decode(jpeg[:2] + b"\xff\xe1\0\2" * 2_000 + jpeg[2:])


@pytest.mark.parametrize("format", FORMATS)
def test_a_reason_repeats_no_bytes_of_the_file(format: str) -> None:
    """Pillow's messages name chunks and headers as they were sent."""
    content = _encode(NOISE, format)
    reasons = set()
    for place in range(12, len(content), 5):
        try:
            _decode(content[:place] + b"SECRET" + content[place + 6 :])
        except ImageError as error:
            reasons.add(str(error).partition(": ")[2])
    assert reasons <= {"image file is damaged", "image file is truncated", ""}
