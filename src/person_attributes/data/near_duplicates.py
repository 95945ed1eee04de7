"""Finds images that are one picture, or one person a moment later."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

_BLOCK = 2048
"""Images whose hashes are held against as many others at once."""

_BORDER = 6
"""Pixels by which one thumbnail may be shifted against the other."""

_BITS = 64


def find_near_duplicates(
    thumbnails: npt.NDArray[np.uint8],
    hashes: Sequence[str],
    hash_distance: int,
    similarity: float,
) -> pd.DataFrame:
    """Finds pairs of images that show nearly the same.

    Perceptual hashes propose pairs, pixels decide: the edges of the two thumbnails are correlated
    at the shift where they agree best. Edges, since light and colours of street scenes are alike;
    shifted, since people are cut out a little differently from one frame to the next. The time
    grows with the square of the images, the memory does not grow.

    Args:
        thumbnails: (n, 64, 64) uint8 grey.
        hashes: n perceptual hashes of 16 hexadecimal digits.
        hash_distance: How many bits of two hashes may differ for pixels to be looked at.
        similarity: The least correlation of a pair, up to 1.

    Returns:
        A pair in each row, most similar first: `first` and `second`, positions in `thumbnails`,
        and `similarity`.
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
    """Turns hashes into (n, 64) of -1 and 1, so that a product of matrices counts equal bits."""
    raw = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, _BITS // 8)
    return np.unpackbits(raw, axis=1).astype(np.float32) * 2 - 1


def _propose(
    bits: npt.NDArray[np.float32], hash_distance: int
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Gives, block by block, the pairs whose hashes are close; first is always before second."""
    for row in range(0, len(bits), _BLOCK):
        for column in range(row, len(bits), _BLOCK):
            equal = bits[row : row + _BLOCK] @ bits[column : column + _BLOCK].T
            is_close = equal >= _BITS - 2 * hash_distance
            close = np.triu(is_close, k=1) if row == column else is_close
            # Flat: of two dimensions NumPy takes longer to find the few than all else takes.
            firsts, seconds = np.divmod(np.flatnonzero(close), close.shape[1])
            yield firsts + row, seconds + column


def _find_edges(thumbnail: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Computes how grey changes along x and y: (64, 64, 2)."""
    smooth = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), 1.0)
    edges = [cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)]
    return np.dstack(edges)


def _correlate(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], similarity: float
) -> float:
    """Correlates edges at their best shift, each cut from the other; the lower figure counts.

    The other way round is left out where the first one is below the similarity already.
    """
    inner, lowest = slice(_BORDER, -_BORDER), np.inf
    for whole, part in ((second, first), (first, second)):
        correlations = cv2.matchTemplate(whole, part[inner, inner], cv2.TM_CCORR_NORMED)
        lowest = min(lowest, float(correlations.max()))
        if lowest < similarity:
            break
    return lowest
