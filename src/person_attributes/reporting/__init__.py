"""Pages, plots and the model card: shows numbers, and computes none."""
