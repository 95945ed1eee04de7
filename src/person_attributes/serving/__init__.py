"""The registered model behind MLflow: what it accepts, what it answers, and how it refuses."""

import os

# ONNX Runtime reports to its maker from the moment of its import, unless it is told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
