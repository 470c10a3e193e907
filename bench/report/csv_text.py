"""Data frames as CSV."""

import pandas as pd

from suites.spreadsheets import safe_cell


def csv_text(frame: pd.DataFrame, float_format: str | None = None) -> str:
    """Return a frame as CSV without its index; text that a spreadsheet would run is escaped."""
    texts = [n for n, column in enumerate(frame.dtypes) if not pd.api.types.is_numeric_dtype(column)]
    safe = frame.copy(deep=False)
    for n in texts:
        safe.isetitem(n, [safe_cell(value) for value in frame.iloc[:, n]])
    safe.columns = pd.Index([safe_cell(name) for name in frame.columns])
    return safe.to_csv(index=False, float_format=float_format)
