"""Keeps what shows nearly the same out of different parts of a split."""

import numpy as np
import pandas as pd

from person_attributes.config import NearDuplicateParams
from person_attributes.data.split import Split
from person_attributes.errors import SplitError


def describe_pairs(
    pairs: pd.DataFrame, records: pd.DataFrame, drawn: Split, settled: Split
) -> pd.DataFrame:
    """Says of each pair of near-duplicates in which parts they were drawn, and lie now.

    Args:
        pairs: As `name_pairs` gives them.
        records: Checked records.
        drawn: The split as it was drawn.
        settled: What `resolve_leaks` made of it.

    Returns:
        A pair in each row: `first` and `second` (row numbers), `first_image`, `second_image`,
        `first_part`, `second_part`, `drawn_apart` (whether the parts differed when they were drawn)
        and `similarity`.
    """
    told = pairs[["first", "second"]].copy()
    parts = _find_parts(settled)
    for side in ("first", "second"):
        told[f"{side}_image"] = records["image"].loc[pairs[side]].to_numpy()
        told[f"{side}_part"] = parts.loc[pairs[side]].to_numpy()
    told["drawn_apart"] = _are_apart(pairs, drawn)
    told["similarity"] = pairs["similarity"].astype(float).round(4)
    return told


def name_pairs(pairs: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Gives pairs of positions, as `find_near_duplicates` does, by the numbers of their rows."""
    named = {side: records.index[pairs[side].to_numpy(int)] for side in ("first", "second")}
    return pairs.assign(**named)


def _find_parts(split: Split) -> pd.Series:
    return pd.Series({row: name for name, rows in split.parts.items() for row in rows}, dtype=str)


def _are_apart(pairs: pd.DataFrame, split: Split) -> pd.Series:
    parts = _find_parts(split)
    first, second = (parts.loc[pairs[side]].to_numpy() for side in ("first", "second"))
    return pd.Series(first != second, index=pairs.index, dtype=bool)


def resolve_leaks(
    split: Split, pairs: pd.DataFrame, groups: pd.Series, params: NearDuplicateParams
) -> Split:
    """Does what the parameters say about near-duplicates in different parts.

    Args:
        split: As drawn.
        pairs: As `name_pairs` gives them.
        groups: Names the group of each record; what is moved takes its group along.
        params: `across_parts` says `report`, `move` or `fail`.

    Returns:
        The split; with `move`, near-duplicates in several parts all train.

    Raises:
        SplitError: If there are any and `across_parts` says `fail`: choose `move`, or group them.
            If nothing would be left of a part: raise `similarity`, or choose another way.
    """
    apart = pairs[_are_apart(pairs, split)]
    if apart.empty or params.across_parts == "report":
        return split
    if params.across_parts == "fail":
        first, second = (int(apart[side].iloc[0]) for side in ("first", "second"))
        parts = _find_parts(split)
        raise SplitError(
            f"split: {len(apart)} pairs of near-duplicates lie in different parts; row {first} "
            f"({parts[first]}) and row {second} ({parts[second]}) are "
            f"{apart['similarity'].iloc[0]:.2f} alike. Expected none. Set "
            "split.near_duplicates.across_parts to move in params.yaml, or group them by "
            "split.group_by."
        )
    settled = split.move(_find_spread(split, _cluster(pairs, groups)))
    for part in split.parts:
        if part not in settled.parts:
            raise SplitError(
                f"split: all {len(split.parts[part])} rows of the part {part!r} would move into "
                "training, as near-duplicates of rows in other parts. Expected some to stay. Raise "
                "split.near_duplicates.similarity in params.yaml, or set across_parts to report."
            )
    return settled


def _find_spread(split: Split, clusters: pd.Series) -> list[int]:
    """Lists the rows of the clusters that lie in several parts."""
    parts = _find_parts(split).loc[clusters.index]
    is_spread = parts.groupby(clusters).transform("nunique") > 1
    return clusters.index[is_spread].tolist()


def _cluster(pairs: pd.DataFrame, groups: pd.Series) -> pd.Series:
    """Numbers what hangs together by near-duplicates and groups, of the rows that pairs touch."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    touched = groups.loc[pairs[["first", "second"]].to_numpy().ravel()].unique()
    members = groups[groups.isin(touched)]
    position = pd.Series(np.arange(len(members)), index=members.index)
    heads = members.groupby(members).transform(lambda rows: rows.index[0])
    starts = np.concatenate([position[pairs["first"]], position])
    ends = np.concatenate([position[pairs["second"]], position[heads]])
    shape = (len(members), len(members))
    graph = coo_array((np.ones(len(starts)), (starts, ends)), shape=shape)
    return pd.Series(connected_components(graph, directed=False)[1], index=members.index)
