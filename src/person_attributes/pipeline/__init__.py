"""The stages of `dvc.yaml`, one module each, named after the stage, and the code they share."""
