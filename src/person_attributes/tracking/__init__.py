"""MLflow runs: one run per stage, below one run per execution of the pipeline."""
