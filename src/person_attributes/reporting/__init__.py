"""The data, looked at before anything is trained on it."""
