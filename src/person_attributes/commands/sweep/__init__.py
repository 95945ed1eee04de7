"""The command `sweep`: a search over parameters by Optuna, each trial in a folder of its own."""

from person_attributes.commands.sweep.search import sweep

__all__ = ["sweep"]
