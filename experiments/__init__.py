"""Accuracy experiments: ablations, and the results in docs/results/."""
