"""MLflow runs this file to load the registered model: code instead of a pickle."""

import mlflow

from person_attributes.serving.classifier import ServedClassifier

mlflow.models.set_model(ServedClassifier())
