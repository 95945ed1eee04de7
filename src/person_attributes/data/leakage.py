"""Resolves leaks: near-duplicates in different parts of a split."""

import numpy as np
import pandas as pd

from person_attributes.config import NearDuplicateParams
from person_attributes.data.split import Split
from person_attributes.errors import SplitError


def describe_pairs(
    pairs: pd.DataFrame, records: pd.DataFrame, drawn: Split, resolved: Split
) -> pd.DataFrame:
    """Adds images and parts of the split to pairs of near-duplicates.

    Args:
        pairs: The result of `name_pairs`.
        records: Checked records.
        drawn: The split before `resolve_leaks`.
        resolved: The split after `resolve_leaks`.

    Returns:
        One row for each pair: `first` and `second` (row numbers), `first_image`, `second_image`,
        `first_part` and `second_part` (in `resolved`), `drawn_apart` (whether the parts differed in
        `drawn`) and `similarity`.
    """
    described = pairs[["first", "second"]].copy()
    parts = _find_parts(resolved)
    for side in ("first", "second"):
        described[f"{side}_image"] = records["image"].loc[pairs[side]].to_numpy()
        described[f"{side}_part"] = parts.loc[pairs[side]].to_numpy()
    described["drawn_apart"] = _are_apart(pairs, drawn)
    described["similarity"] = pairs["similarity"].astype(float).round(4)
    return described


def name_pairs(pairs: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Replaces the positions in pairs of `find_near_duplicates` by row numbers."""
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
    """Handles near-duplicates in different parts as `across_parts` requires.

    Args:
        split: The split as drawn.
        pairs: The result of `name_pairs`.
        groups: The group of each record; a moved row takes its group with it.
        params: `across_parts` is `report`, `move` or `fail`.

    Returns:
        The split. With `move`, near-duplicates in different parts are now in the training part.

    Raises:
        SplitError: If such pairs exist and `across_parts` is `fail`; choose `move`, or group the
            rows. Also if a part would become empty; raise `similarity`, or choose `report`.
    """
    apart = pairs[_are_apart(pairs, split)]
    if apart.empty or params.across_parts == "report":
        return split
    if params.across_parts == "fail":
        first, second = (int(apart[side].iloc[0]) for side in ("first", "second"))
        parts = _find_parts(split)
        raise SplitError(
            f"split: {len(apart)} pairs of near-duplicates are in different parts; the most "
            f"similar are row {first} ({parts[first]}) and row {second} ({parts[second]}), with "
            f"similarity {apart['similarity'].iloc[0]:.2f}. Expected none. Set "
            "split.near_duplicates.across_parts to move in params.yaml, or group such rows by "
            "split.group_by."
        )
    resolved = split.move(_find_spread(split, _cluster(pairs, groups)))
    for part in split.parts:
        if part not in resolved.parts:
            raise SplitError(
                f"split: all {len(split.parts[part])} rows of the part {part!r} would move into "
                "training, as near-duplicates of rows in other parts. Expected some to stay. Raise "
                "split.near_duplicates.similarity in params.yaml, or set across_parts to report."
            )
    return resolved


def _find_spread(split: Split, clusters: pd.Series) -> list[int]:
    """Lists the rows of clusters that are in several parts."""
    parts = _find_parts(split).loc[clusters.index]
    is_spread = parts.groupby(clusters).transform("nunique") > 1
    return clusters.index[is_spread].tolist()


def _cluster(pairs: pd.DataFrame, groups: pd.Series) -> pd.Series:
    """Numbers the connected components of pairs and groups.

    Only groups with at least one row in a pair are included.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    touched = groups.loc[pairs[["first", "second"]].to_numpy().ravel()].unique()
    members = groups[groups.isin(touched)]
    position = pd.Series(np.arange(len(members)), index=members.index)
    first_of_group = members.groupby(members).transform(lambda rows: rows.index[0])
    starts = np.concatenate([position[pairs["first"]], position])
    ends = np.concatenate([position[pairs["second"]], position[first_of_group]])
    shape = (len(members), len(members))
    graph = coo_array((np.ones(len(starts)), (starts, ends)), shape=shape)
    return pd.Series(connected_components(graph, directed=False)[1], index=members.index)
