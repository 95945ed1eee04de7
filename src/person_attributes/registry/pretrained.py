"""Reads the files of the published network, and verifies their checksum."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from person_attributes.config import Params, read_params
from person_attributes.digests import combine, digest_code, digest_paths
from person_attributes.errors import RegistryError

_WEIGHTS, _PARAMS, _PROVENANCE, _CARD = "weights.npz", "params.yaml", "provenance.json", "README.md"
_FILES = (_WEIGHTS, _PARAMS, _PROVENANCE, _CARD)
_KEYS = ("sha256", "normalization", "temperatures", "pattern_answers")
_RESTORE = "Restore the folder: git checkout -- pretrained"


@dataclass(frozen=True)
class Pretrained:
    """The published network.

    Attributes:
        folder: The folder with its files.
        params: The parameters of its training.
        provenance: Its rows, normalization, temperatures, metrics and checksum.
        card: Its model card, as Markdown.
    """

    folder: Path
    params: Params
    provenance: Mapping[str, Any]
    card: str

    @classmethod
    def read(cls, folder: Path) -> "Pretrained":
        """Reads the files.

        Raises:
            RegistryError: If a file is missing or unreadable, or the weights have another checksum.
                Restore it from git.
        """
        for name in _FILES:
            if not (folder / name).is_file():
                raise RegistryError(
                    f"{folder / name}: no such file. Expected the published network. {_RESTORE}."
                )
        try:
            provenance = json.loads((folder / _PROVENANCE).read_text(encoding="utf-8"))
            expected = {key: provenance[key] for key in _KEYS}["sha256"]
            card = (folder / _CARD).read_text(encoding="utf-8")
        except (ValueError, TypeError, KeyError) as error:
            raise RegistryError(
                f"{folder}: expected {_PROVENANCE} with {', '.join(_KEYS)}, and {_CARD} in UTF-8. "
                f"Received: {type(error).__name__}: {error}. {_RESTORE}."
            ) from None
        received = hashlib.sha256((folder / _WEIGHTS).read_bytes()).hexdigest()
        if received != expected:
            raise RegistryError(
                f"{folder / _WEIGHTS}: the checksum does not match. Expected SHA-256 {expected}. "
                f"Received: {received}. Nothing was registered. {_RESTORE}."
            )
        return cls(folder, read_params(folder / _PARAMS), provenance, card)

    @property
    def weights(self) -> Path:
        """The arrays by the path of their variable, in float16 and float32."""
        return self.folder / _WEIGHTS

    @property
    def params_file(self) -> Path:
        return self.folder / _PARAMS

    @property
    def image_size(self) -> int | str:
        return self.params.evaluated_image_size

    def digest_content(self, params: Params) -> str:
        """Digests the content of a version: these files, the code, and the settings of serving.

        Args:
            params: The parameters of the project that registers it.
        """
        files = [self.folder / name for name in _FILES]
        code = [Path(__file__), Path(__file__).with_name("pretrained_model.py")]
        return combine(
            {
                "files": digest_paths(self.folder, files),
                "code": digest_code("register") | digest_paths(Path(__file__).parent, code),
                "serving": params.registry.serving.model_dump(mode="json"),
                "limits": params.data.limits.model_dump(mode="json"),
            }
        )
