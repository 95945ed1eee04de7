"""Keeps what shows nearly the same out of different parts of a split."""

import numpy as np
import pandas as pd

from person_attributes.config import NearDuplicateParams
from person_attributes.data.split import Split
from person_attributes.errors import SplitError


def find_leaks(split: Split, pairs: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Says of each pair of near-duplicates in which parts they lie.

    Args:
        split: As drawn.
        pairs: As `find_near_duplicates` gives them.
        records: What the positions of the pairs mean.

    Returns:
        A pair in each row: `first` and `second` (row numbers), `first_image`, `second_image`,
        `first_part`, `second_part`, `leaks` (whether the parts differ) and `similarity`.
    """
    parts = pd.Series({row: name for name, rows in split.parts.items() for row in rows}, dtype=str)
    told = pd.DataFrame(index=pairs.index)
    for side in ("first", "second"):
        told[side] = records.index[pairs[side]]
        told[f"{side}_image"] = records["image"].iloc[pairs[side]].to_numpy()
        told[f"{side}_part"] = parts.loc[told[side]].to_numpy()
    told["leaks"] = told["first_part"] != told["second_part"]
    told["similarity"] = pairs["similarity"].round(4)
    return told


def settle_leaks(
    split: Split, leaks: pd.DataFrame, groups: pd.Series, params: NearDuplicateParams
) -> Split:
    """Does what the parameters say about near-duplicates in different parts.

    Args:
        split: As drawn.
        leaks: As `find_leaks` gives them.
        groups: Names the group of each record; what is moved takes its group along.
        params: `across_parts` says `report`, `move` or `fail`.

    Returns:
        The split; with `move`, near-duplicates in several parts all train.

    Raises:
        SplitError: If there are any and `across_parts` says `fail`: choose `move`, or group them.
    """
    found = leaks[leaks["leaks"]]
    if found.empty or params.across_parts == "report":
        return split
    if params.across_parts == "fail":
        worst = found.iloc[0]
        raise SplitError(
            f"split: {len(found)} pairs of near-duplicates lie in different parts; "
            f"{worst['first_image']} ({worst['first_part']}) and {worst['second_image']} "
            f"({worst['second_part']}) are {worst['similarity']:.2f} alike. Expected none. Set "
            "split.near_duplicates.across_parts to move in params.yaml, or group them by "
            "split.group_by."
        )
    clusters = _cluster(leaks, groups)
    parts = {row: name for name, rows in split.parts.items() for row in rows}
    is_spread = clusters.groupby(clusters).transform(
        lambda rows: len({parts[row] for row in rows.index}) > 1
    )
    return split.move(clusters.index[is_spread.astype(bool)].tolist())


def _cluster(leaks: pd.DataFrame, groups: pd.Series) -> pd.Series:
    """Numbers what hangs together by near-duplicates and groups, of the rows that pairs touch."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    touched = groups.loc[leaks[["first", "second"]].to_numpy().ravel()].unique()
    members = groups[groups.isin(touched)]
    position = pd.Series(np.arange(len(members)), index=members.index)
    heads = members.groupby(members).transform(lambda rows: rows.index[0])
    starts = np.concatenate([position[leaks["first"]], position])
    ends = np.concatenate([position[leaks["second"]], position[heads]])
    shape = (len(members), len(members))
    graph = coo_array((np.ones(len(starts)), (starts, ends)), shape=shape)
    return pd.Series(connected_components(graph, directed=False)[1], index=members.index)
