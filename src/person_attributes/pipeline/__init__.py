"""One module for each stage of `dvc.yaml`, of the same name, and beside them what stages share."""
