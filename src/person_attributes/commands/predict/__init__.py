"""The command `predict`: labels images with a registered model."""

from person_attributes.commands.predict.scoring import predict

__all__ = ["predict"]
