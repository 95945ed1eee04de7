"""Scores predictions and shows them: numbers, figures, one report page."""
