"""Settings of Keras for other projects on the machine change no result."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

_PRINT = """
from person_attributes.runtime.keras_import import import_keras
import_keras()
import keras
layer = keras.layers.Conv2D(1, 1)
print(layer.data_format, layer.dtype, keras.config.epsilon())
"""


def test_settings_of_other_projects_are_ignored(tmp_path: Path) -> None:
    settings = {"image_data_format": "channels_first", "floatx": "float64", "epsilon": 0.1}
    (tmp_path / "keras.json").write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _PRINT],
        env={"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["channels_last", "float32", "1e-07"]
