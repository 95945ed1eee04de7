"""The command `sweep`: searches parameters with Optuna; each trial has its own folder."""

from person_attributes.commands.sweep.search import sweep

__all__ = ["sweep"]
