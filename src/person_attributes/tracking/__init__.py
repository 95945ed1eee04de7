"""MLflow runs: one a stage, below one an execution of the pipeline."""
