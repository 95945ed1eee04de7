"""Accuracy: what each choice brings, and the results that docs/results/ shows."""
