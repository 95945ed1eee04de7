"""Separates the metadata of an image file from its pixels.

Pillow reads metadata when it opens a file. It refuses files with damaged metadata, and prints
warnings with text of the file. Without metadata it only reads pixels.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from person_attributes.errors import ImageError

_SIGNATURES = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG\r\n\x1a\n)|(?P<WebP>RIFF.{4}WEBP)|(?P<BMP>BM)",
    re.DOTALL,
)

_EXIF_HEADER = b"Exif\0\0"
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
"""Prefixes of `struct` formats by the first bytes of an EXIF block."""

_ORIENTATION = 0x0112
"""Tag of the orientation in EXIF."""

_INTEGERS = {1: "B", 3: "H", 4: "I"}
"""`struct` formats by the number of an EXIF type: BYTE, SHORT, LONG."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
_JPEG_PIXELS = 0xDA
_JPEG_METADATA = (*range(0xE0, 0xF0), 0xFE)
"""Codes of application segments and comments."""

_ANIMATED = range(2, 2**31)
"""Numbers of frames of an animated PNG."""

_WEBP_PIXELS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
"""Chunks that describe pixels and frames."""

_MAX_BLOCKS = 1_000
"""Maximum number of blocks of metadata, because each takes time to read."""

_MAX_TEXT = 200_000
"""Maximum size of a compressed text after decompression, in bytes."""


class _Block(NamedTuple):
    """A block of metadata, from `start` to `end` in its file.

    `exif` and `xmp` are the orientation in its EXIF and in its XMP, 0 if there is none.
    """

    start: int
    end: int
    exif: int = 0
    xmp: int = 0


def find_format(content: bytes) -> str | None:
    """Returns JPEG, PNG, WebP or BMP, as the first bytes of a file say; None for others."""
    match = _SIGNATURES.match(content)
    return match.lastgroup if match else None


def split_metadata(content: bytes) -> tuple[bytes, int]:
    """Removes the metadata of an image file and reads the orientation in it.

    Args:
        content: A JPEG, PNG, WebP or BMP file. It may be damaged.

    Returns:
        The file without metadata, and its orientation as in EXIF, 1 to 8. Without readable
        metadata the orientation is 1, upright.

    Raises:
        ImageError: If the metadata is split into very many blocks. Replace the file.
    """
    kind = find_format(content)
    if kind not in _FINDERS:
        return content, 1
    blocks = list(islice(_FINDERS[kind](content), _MAX_BLOCKS + 1))
    if len(blocks) > _MAX_BLOCKS:
        raise ImageError(f"more than {_MAX_BLOCKS} blocks of metadata")
    if not blocks:
        return content, 1
    pixels = _remove(content, blocks)
    if kind == "WebP":  # its header has its length
        pixels = pixels[:4] + (len(pixels) - 8).to_bytes(4, "little") + pixels[8:]
    found = [block.exif for block in blocks] + [block.xmp for block in blocks]
    return pixels, next((orientation for orientation in found if 1 <= orientation <= 8), 1)


def _remove(content: bytes, blocks: Iterable[_Block]) -> bytes:
    kept, position = [], 0
    for block in blocks:
        kept.append(content[position : block.start])
        position = block.end
    return b"".join([*kept, content[position:]])


def _find_in_jpeg(content: bytes) -> Iterator[_Block]:
    """Finds application segments and comments before the pixels, and bytes between segments."""
    start = 2
    while marker := _JPEG_MARKER.search(content, start):
        if marker.start() > start:
            yield _Block(start, marker.start())
        code, begin = content[marker.end() - 1], marker.end()
        if code == _JPEG_PIXELS:
            return
        start = begin + int.from_bytes(content[begin : begin + 2], "big")
        segment = content[begin + 2 : start]
        if code in _JPEG_METADATA and not _describes_colours(code, segment):
            xmp = _read_xmp(segment) if segment.startswith(_XMP_HEADER) else 0
            yield _Block(marker.start(), start, _read_exif(segment), xmp)
    if start < len(content):
        yield _Block(start, len(content))


def _describes_colours(code: int, segment: bytes) -> bool:
    """Returns whether the JPEG decoder uses an application segment; it ignores shorter ones."""
    is_jfif = code == 0xE0 and segment.startswith(b"JFIF\0") and len(segment) >= 14
    is_adobe = code == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12
    return is_jfif or is_adobe


def _find_in_png(content: bytes) -> Iterator[_Block]:
    """Finds the optional chunks, except transparency and the number of frames of an animation."""
    start = 8
    while kind := content[start + 4 : start + 8]:
        length = int.from_bytes(content[start : start + 4], "big")
        end = start + length + 12
        if kind[:1].islower() and kind != b"tRNS":  # a small letter marks optional chunks
            data = content[start + 8 : start + 8 + length]
            frames = int.from_bytes(data[:4], "big") if kind == b"acTL" and length >= 8 else 1
            if frames not in _ANIMATED:
                yield _read_png_chunk(start, end, kind, data)
        start = end


def _read_png_chunk(start: int, end: int, kind: bytes, data: bytes) -> _Block:
    keyword, _, text = data.partition(b"\0")
    exif = xmp = 0
    if kind == b"eXIf":
        exif = _read_exif(data)
    elif kind == b"iTXt" and keyword == b"XML:com.adobe.xmp":
        is_compressed, body = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
        xmp = _read_xmp(_decompress(body) if is_compressed else body)
    elif kind in (b"tEXt", b"zTXt") and keyword == b"Raw profile type exif":
        digits = _decompress(text[1:]) if kind == b"zTXt" else text
        exif = _read_exif(_read_hexadecimal(digits))
    return _Block(start, end, exif, xmp)


def _read_hexadecimal(text: bytes) -> bytes:
    """Reads EXIF in ImageMagick's form: a line break, a name, a length, and digits in lines."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _decompress(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT)
    except zlib.error:
        return b""


def _find_in_webp(content: bytes) -> Iterator[_Block]:
    """Finds the chunks that do not describe pixels, and bytes after the last chunk."""
    file_end = 8 + int.from_bytes(content[4:8], "little")
    start = 12
    while start < file_end and (kind := content[start : start + 4]):
        length = int.from_bytes(content[start + 4 : start + 8], "little")
        end = start + 8 + length + length % 2
        if kind not in _WEBP_PIXELS:
            data = content[start + 8 : start + 8 + length]
            exif = _read_exif(data) if kind == b"EXIF" else 0
            xmp = _read_xmp(data) if kind == b"XMP " else 0
            yield _Block(start, end, exif, xmp)
        start = end
    if file_end < len(content):
        yield _Block(max(start, file_end), len(content))


def _read_exif(exif: bytes) -> int:
    """Returns the orientation in a block of EXIF, 0 if there is none."""
    exif = exif.removeprefix(_EXIF_HEADER)
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return 0
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == _ORIENTATION and kind in _INTEGERS and count == 1:
                return int(struct.unpack_from(order + _INTEGERS[kind], exif, entry + 8)[0])
    except struct.error:
        pass
    return 0


def _read_xmp(xmp: bytes) -> int:
    """Returns the orientation in a packet of XMP, 0 if there is none."""
    match = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp)
    return int(match[1]) if match else 0


_FINDERS: Mapping[str | None, Callable[[bytes], Iterator[_Block]]] = {
    "JPEG": _find_in_jpeg,
    "PNG": _find_in_png,
    "WebP": _find_in_webp,
}
"""Functions that find the metadata of a file, by format. BMP has no metadata."""
