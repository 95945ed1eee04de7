"""The registered model behind MLflow: what it accepts, what it answers, and how it refuses."""
