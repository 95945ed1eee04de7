"""Quoting of values in MLflow's filter strings."""

from person_attributes.errors import TrackingError


def quote_value(value: str) -> str:
    """Quotes a value for a filter string of MLflow, which does not support escapes.

    Args:
        value: Any text, such as the name of a registered model.

    Returns:
        The value in single or double quotes.

    Raises:
        TrackingError: If the value contains both kinds of quotes or ends with a backslash: rename
            it.
    """
    for quote in ("'", '"'):
        if quote not in value and not value.endswith("\\"):
            return f"{quote}{value}{quote}"
    raise TrackingError(
        f"{value!r}: MLflow cannot search for this name. Expected at most one kind of quotes, and "
        "no backslash at the end. Rename it."
    )
