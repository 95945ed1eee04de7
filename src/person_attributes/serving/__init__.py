"""The served model: its requests, answers and errors."""

import os

# ONNX Runtime sends telemetry from its import on, unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Pillow reads this on import. The memory of such large blocks returns to the system at once; that
# of smaller ones stays with each thread.
os.environ.setdefault("PILLOW_BLOCK_SIZE", "64m")
