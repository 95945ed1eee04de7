"""Pages, plots and the model card; computes no metrics."""
