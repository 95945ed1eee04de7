"""The served model: its requests, answers and errors."""

import os

# ONNX Runtime sends telemetry from its import on, unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
