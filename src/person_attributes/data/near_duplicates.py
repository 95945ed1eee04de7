"""Finds near-duplicates: copies of an image, crops of it, and consecutive frames of a video."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

_BLOCK = 2048
"""Number of images per block in the comparison of hashes."""

_BORDER = 6
"""Largest shift between two thumbnails, in pixels."""

_BITS = 64

_Crop = tuple[float, float]
"""Shares of height and width that a crop keeps, from the middle."""

_WHOLE: _Crop = (1.0, 1.0)

_CROPS: list[_Crop] = [crop for crop in product((1.0, 0.9, 0.8), (1.0, 0.9, 0.8)) if crop != _WHOLE]
"""Up to a tenth is missing on each side."""

_CROP_DISTANCE = 10
"""Maximum number of different bits of a crop and another image: crops are many, and few differ."""

_COSINES = np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(32) + 1) / 64)
"""The lowest frequencies of the discrete cosine transform of 32 values."""


def find_near_duplicates(
    thumbnails: npt.NDArray[np.uint8],
    hashes: Sequence[str],
    hash_distance: int,
    similarity: float,
) -> pd.DataFrame:
    """Finds pairs of near-duplicate images.

    Perceptual hashes select candidates. Then the edges of two thumbnails are correlated at the best
    shift: light and colours of street scenes are similar, and frames show a person at different
    places. Crops of each thumbnail are compared with all other images in the same way. The time
    grows with the square of the number of images.

    Args:
        thumbnails: (n, 64, 64) uint8 grey.
        hashes: n perceptual hashes of 16 hexadecimal digits.
        hash_distance: Maximum number of different bits of the hashes of candidates, 0 to 64. It is
            at most 10 for crops.
        similarity: Minimum correlation of a pair, 0 to 1.

    Returns:
        One row for each pair, most similar first: the positions `first` < `second`, `similarity`.
    """
    bits = _unpack(hashes)
    found: dict[tuple[int, int], float] = {}

    @lru_cache(2 * _BLOCK)
    def edges(position: int, crop: _Crop) -> npt.NDArray[np.float32]:
        return _find_edges(_crop(thumbnails[position], crop))

    with tqdm(desc="near-duplicates", unit="pair", disable=None) as bar:
        for crop, first, second in _propose(thumbnails, bits, hash_distance):
            correlation = _correlate(edges(first, crop), edges(second, _WHOLE), similarity)
            if correlation >= similarity:
                pair = min(first, second), max(first, second)
                found[pair] = max(correlation, found.get(pair, 0.0))
            bar.update()
    rows = [(*pair, highest) for pair, highest in found.items()]
    return pd.DataFrame(rows, columns=["first", "second", "similarity"]).sort_values(
        ["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True
    )


def _unpack(hashes: Sequence[str]) -> npt.NDArray[np.float32]:
    """Converts hashes to (n, 64) of -1 and 1, whose matrix product counts equal bits."""
    raw = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, _BITS // 8)
    return np.unpackbits(raw, axis=1).astype(np.float32) * 2 - 1


def _propose(
    thumbnails: npt.NDArray[np.uint8], bits: npt.NDArray[np.float32], hash_distance: int
) -> Iterator[tuple[_Crop, int, int]]:
    """Yields candidates: a crop, the position of its image, and the position of the other one."""
    for first, second in _find_close(bits, bits, hash_distance):
        yield _WHOLE, first, second
    for crop in _CROPS:
        cropped = _hash_crops(thumbnails, crop)
        for first, second in _find_close(cropped, bits, min(hash_distance, _CROP_DISTANCE)):
            yield crop, first, second


def _hash_crops(thumbnails: npt.NDArray[np.uint8], crop: _Crop) -> npt.NDArray[np.float32]:
    """Computes the perceptual hash of a crop of each thumbnail, in the form of `_unpack`."""
    rows = []
    for thumbnail in thumbnails:
        small = cv2.resize(_cut(thumbnail, crop), (32, 32), interpolation=cv2.INTER_AREA)
        low = (_COSINES @ small.astype(np.float64) @ _COSINES.T).ravel()
        rows.append(np.where(low > np.median(low), 1, -1).astype(np.float32))
    return np.stack(rows)


def _cut(thumbnail: npt.NDArray[np.uint8], crop: _Crop) -> npt.NDArray[np.uint8]:
    """Cuts off the same number of pixels on opposite sides."""
    height, width = thumbnail.shape
    top, left = round(height * (1 - crop[0]) / 2), round(width * (1 - crop[1]) / 2)
    return np.ascontiguousarray(thumbnail[top : height - top, left : width - left])


def _crop(thumbnail: npt.NDArray[np.uint8], crop: _Crop) -> npt.NDArray[np.uint8]:
    """Crops a thumbnail and enlarges the crop to the size of the thumbnail."""
    return np.asarray(cv2.resize(_cut(thumbnail, crop), thumbnail.shape[::-1]), np.uint8)


def _find_close(
    left: npt.NDArray[np.float32], right: npt.NDArray[np.float32], hash_distance: int
) -> Iterator[tuple[int, int]]:
    """Yields pairs of different positions in `left` and `right` with close hashes.

    If `left` is `right`, each pair is yielded once: first < second.
    """
    is_same = left is right
    for row in range(0, len(left), _BLOCK):
        for column in range(row if is_same else 0, len(right), _BLOCK):
            equal = left[row : row + _BLOCK] @ right[column : column + _BLOCK].T
            is_close = equal >= _BITS - 2 * hash_distance
            if is_same and row == column:
                is_close = np.triu(is_close, k=1)
            # Flat, because np.nonzero is slow on two dimensions.
            rows, columns = np.divmod(np.flatnonzero(is_close), is_close.shape[1])
            is_other = rows + row != columns + column
            firsts, seconds = (rows + row)[is_other], (columns + column)[is_other]
            yield from zip(firsts.tolist(), seconds.tolist(), strict=True)


def _find_edges(thumbnail: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Computes the gradients of grey along x and y: (64, 64, 2)."""
    smooth = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), 1.0)
    edges = [cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)]
    return np.dstack(edges)


def _correlate(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], similarity: float
) -> float:
    """Correlates the centre of each image with the other one; returns the lower maximum.

    The second direction is skipped if the first one is already below the similarity.
    """
    inner, lowest = slice(_BORDER, -_BORDER), np.inf
    for whole, part in ((second, first), (first, second)):
        correlations = cv2.matchTemplate(whole, part[inner, inner], cv2.TM_CCORR_NORMED)
        lowest = min(lowest, float(correlations.max()))
        if lowest < similarity:
            break
    return lowest
