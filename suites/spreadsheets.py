"""Cells of CSV files that people open in spreadsheets, which run text that looks like a formula."""

_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(value: object) -> object:
    """Return a value with an apostrophe before text that would be run as a formula, others unchanged."""
    if not isinstance(value, str) or not value.startswith(_BEGINS_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
