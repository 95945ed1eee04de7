"""Finds near-duplicates: copies of an image, and consecutive frames of a video."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

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


def find_near_duplicates(
    thumbnails: npt.NDArray[np.uint8],
    hashes: Sequence[str],
    hash_distance: int,
    similarity: float,
) -> pd.DataFrame:
    """Finds pairs of near-duplicate images.

    Perceptual hashes select candidates. Then the edges of two thumbnails are correlated at the
    shift with the highest correlation. Edges are used because light and colours of street scenes
    are similar, and shifts because crops of a person differ between frames. The time grows with
    the square of the number of images; the memory does not grow.

    Args:
        thumbnails: (n, 64, 64) uint8 grey.
        hashes: n perceptual hashes of 16 hexadecimal digits.
        hash_distance: Maximum number of different bits of the hashes of candidates, 0 to 64.
        similarity: Minimum correlation of a pair, 0 to 1.

    Returns:
        One row for each pair, most similar first: `first` and `second` (positions in `thumbnails`,
        first < second) and `similarity`.
    """
    bits = _unpack(hashes)
    pairs = []

    @lru_cache(2 * _BLOCK)
    def edges(position: int) -> npt.NDArray[np.float32]:
        return _find_edges(thumbnails[position])

    with tqdm(desc="near-duplicates", unit="pair", disable=None) as bar:
        for firsts, seconds in _propose(bits, hash_distance):
            for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True):
                correlation = _correlate(edges(first), edges(second), similarity)
                if correlation >= similarity:
                    pairs.append((first, second, correlation))
                bar.update()
    found = pd.DataFrame(pairs, columns=["first", "second", "similarity"])
    return found.sort_values(
        ["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True
    )


def _unpack(hashes: Sequence[str]) -> npt.NDArray[np.float32]:
    """Converts hashes to (n, 64) of -1 and 1, whose matrix product counts equal bits."""
    raw = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, _BITS // 8)
    return np.unpackbits(raw, axis=1).astype(np.float32) * 2 - 1


def _propose(
    bits: npt.NDArray[np.float32], hash_distance: int
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yields the pairs with close hashes in each block; first < second."""
    for row in range(0, len(bits), _BLOCK):
        for column in range(row, len(bits), _BLOCK):
            equal = bits[row : row + _BLOCK] @ bits[column : column + _BLOCK].T
            is_close = equal >= _BITS - 2 * hash_distance
            close = np.triu(is_close, k=1) if row == column else is_close
            # Flat, because np.nonzero is slow on two dimensions.
            firsts, seconds = np.divmod(np.flatnonzero(close), close.shape[1])
            yield firsts + row, seconds + column


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
