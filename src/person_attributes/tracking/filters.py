"""MLflow's filter strings: how a value stands in them."""

from person_attributes.errors import TrackingError


def quote_value(value: str) -> str:
    """Quotes a value for a filter string of MLflow, whose language knows no escapes.

    Args:
        value: Any text, such as the name of a registered model.

    Returns:
        The value between quotes that are not in it.

    Raises:
        TrackingError: If no quotes can hold it; give it another name.
    """
    for quote in ("'", '"'):
        if quote not in value and not value.endswith("\\"):
            return f"{quote}{value}{quote}"
    raise TrackingError(
        f"{value!r}: MLflow cannot search for this name. Expected one kind of quotes at most, and "
        "no backslash at its end. Rename it."
    )
