"""Reads and writes the file of checked records."""

from pathlib import Path

import pandas as pd


def write_records(records: pd.DataFrame, path: Path) -> None:
    """Writes records as CSV, with their row numbers."""
    records.to_csv(path, lineterminator="\n")


def read_records(path: Path) -> pd.DataFrame:
    """Reads records written by `write_records`; every cell is text."""
    records = pd.read_csv(path, dtype=str, keep_default_na=False)
    records.index = pd.Index(records.pop("row").astype(int), name="row")
    return records
